//! Announcements of resources to the registrar CSE.

use std::time::Duration;

use saegis_onem2m::id::CseId;
use serde_json::{Value, json};

use crate::budget::RequestBudget;
use crate::store::Writer;
use crate::testing::{Bench, LIGHT1, LIGHT2, Reply, settings};
use crate::{AnnouncementOutcome, AnnouncementTask, Position, Settings, Synchronization};

const LAMP: &str = "/cse/light1/lamp";

/// Returns a CSE that is registered with `/in-cse`.
fn home() -> Bench {
    let registrar = Some(CseId::parse("in-cse").unwrap());
    Bench::lights(Settings { registrar, ..settings() })
}

fn next(bench: &Bench) -> Option<AnnouncementTask> {
    bench.cse().next_announcement("", bench.time()).unwrap()
}

fn synchronization(bench: &Bench) -> Synchronization {
    match next(bench) {
        Some(AnnouncementTask::Synchronize(task)) => *task,
        other => panic!("another task: {other:?}"),
    }
}

/// Performs the next task, which must be a synchronization.
fn done(bench: &Bench, outcome: AnnouncementOutcome) -> Synchronization {
    let task = synchronization(bench);
    let done = AnnouncementTask::Synchronize(Box::new(task.clone()));
    bench.cse().announcement_outcome(&done, &outcome, bench.time()).unwrap();
    bench.cse().store().assert_consistent();
    task
}

fn at(address: &str) -> AnnouncementOutcome {
    AnnouncementOutcome::Done(address.into())
}

fn lamp(bench: &Bench, attributes: Value) -> Reply {
    let mut all = json!({"rn": "lamp", "at": ["/in-cse"]});
    for (name, value) in attributes.as_object().unwrap() {
        all[name] = value.clone();
    }
    bench.container(LIGHT1, "/cse/light1", all)
}

fn deleted(bench: &Bench) -> Vec<String> {
    let mut all = Vec::new();
    while let Some(task) = next(bench) {
        let AnnouncementTask::Delete(deletion) = &task else { panic!("another task: {task:?}") };
        all.push(deletion.address.clone());
        bench.cse().announcement_outcome(&task, &AnnouncementOutcome::Gone, bench.time()).unwrap();
    }
    all.sort();
    all
}

fn announced(name: &str) -> Value {
    json!({"rn": name, "at": ["/in-cse"]})
}

#[test]
fn container_is_announced_with_its_attributes() {
    let bench = home();
    let acp = json!({"m2m:acp": {"rn": "acp", "pv": {"acr": [{"acor": [LIGHT1], "acop": 63}]},
        "pvs": {"acr": [{"acor": [LIGHT1], "acop": 63}]}}});
    assert_eq!(bench.create(Some(LIGHT1), "/cse/light1", 1, acp).code, 2001);
    let acpi = ["cse/light1/acp", "/in-cse/cse/family"];
    let more = json!({"lbl": ["lamp"], "aa": ["mni"], "mni": 5, "mia": 60, "acpi": acpi});
    let created = lamp(&bench, more);
    assert_eq!(created.code, 2001, "{}", created.why());
    // The attribute is there when the announcement is.
    assert_eq!(created.attributes()["at"], Value::Null);
    let ri = created.attributes()["ri"].as_str().unwrap();
    let task = done(&bench, at("/in-cse/cntA-1"));
    assert_eq!((&task.position, task.kind.number()), (&Position::BelowCse, 10003));
    let announced = &task.representation["m2m:cntA"];
    assert_eq!(announced["lnk"], format!("/mn-cse-123456/{ri}"));
    assert_eq!(announced["acpi"], json!(["/mn-cse-123456/cse/light1/acp", "/in-cse/cse/family"]));
    assert_eq!((&announced["lbl"], &announced["mni"]), (&json!(["lamp"]), &json!(5)));
    assert_eq!((&announced["mia"], &announced["rn"]), (&Value::Null, &Value::Null));
    assert!(announced["et"].is_string(), "{announced}");
    let now = bench.retrieve(LIGHT1, LAMP);
    assert_eq!(now.attributes()["at"], json!(["/in-cse/cntA-1"]));
    assert!(next(&bench).is_none());
    // A change of an announced attribute, and of those that are announced.
    let change = json!({"m2m:cnt": {"lbl": null, "aa": ["mia"]}});
    assert_eq!(bench.update(LIGHT1, LAMP, change).code, 2004);
    let task = done(&bench, at("/in-cse/cntA-1"));
    assert_eq!(task.position, Position::At("/in-cse/cntA-1".into()));
    let announced = &task.representation["m2m:cntA"];
    assert_eq!((&announced["mia"], announced.get("mni")), (&json!(60), Some(&Value::Null)));
    assert_eq!(announced.get("lbl"), Some(&Value::Null));
    // Policies are changed by a request of their own, and only if they have changed.
    assert_eq!((announced.get("acpi"), &task.policies), (None, &None));
    let change = json!({"m2m:cnt": {"acpi": ["cse/light1/acp"]}});
    assert_eq!(bench.update(LIGHT1, LAMP, change).code, 2004);
    let task = done(&bench, at("/in-cse/cntA-1"));
    let acpi = json!(["/mn-cse-123456/cse/light1/acp"]);
    assert_eq!(task.policies, Some(json!({"m2m:cntA": {"acpi": acpi}})));
    // The address is retained, and null ends the announcement.
    let same = json!({"m2m:cnt": {"at": ["/in-cse/cntA-1"]}});
    let reply = bench.update(LIGHT1, LAMP, same);
    assert_eq!((reply.code, &reply.attributes()["at"]), (2004, &json!(["/in-cse/cntA-1"])));
    done(&bench, at("/in-cse/cntA-1"));
    assert_eq!(bench.update(LIGHT1, LAMP, json!({"m2m:cnt": {"at": null}})).code, 2004);
    assert_eq!(bench.retrieve(LIGHT1, LAMP).attributes()["at"], Value::Null);
    assert_eq!(deleted(&bench), ["/in-cse/cntA-1"]);
    // It can be announced again by an update.
    let again = json!({"m2m:cnt": {"at": ["//in.provider.com/in-cse"]}});
    assert_eq!(bench.update(LIGHT1, LAMP, again).code, 2004);
    assert_eq!(done(&bench, at("/in-cse/cntA-2")).position, Position::BelowCse);
}

#[test]
fn announcement_that_is_not_possible_is_refused() {
    let bench = home();
    for (attributes, code) in [
        (json!({"at": ["/other-cse"]}), 5001),
        (json!({"at": ["/in-cse/cse/phone"]}), 5001),
        (json!({"at": ["/in-cse", "/other-cse"]}), 5001),
        (json!({"at": []}), 4000),
        (json!({"at": "/in-cse"}), 4000),
        (json!({"aa": ["acpi"]}), 4000),
        (json!({"aa": ["lbl"]}), 4000),
        (json!({"aa": ["con"]}), 4000),
        (json!({"aa": ["nothing"]}), 4000),
        (json!({"ast": 2}), 5001),
    ] {
        let reply = lamp(&bench, attributes.clone());
        assert_eq!(reply.code, code, "{attributes} {}", reply.why());
    }
    assert!(next(&bench).is_none());
    assert_eq!(lamp(&bench, json!({"ast": 1})).code, 2001);
    // The parent of an instance must be announced.
    let instance = json!({"con": "on", "at": ["/in-cse"]});
    let pending = bench.instance(LIGHT1, LAMP, instance.clone());
    assert_eq!(pending.code, 4005, "{}", pending.why());
    done(&bench, at("/in-cse/cntA-1"));
    assert_eq!(bench.instance(LIGHT1, LAMP, instance).code, 2001);
    let task = done(&bench, at("/in-cse/cinA-1"));
    assert_eq!(task.position, Position::Below("/in-cse/cntA-1".into()));
    assert_eq!(task.representation["m2m:cinA"].get("con"), None);
    // Other resource types are not announced.
    let acp = json!({"m2m:acp": {"pv": {}, "pvs": {}, "at": ["/in-cse"]}});
    assert_eq!(bench.create(Some(LIGHT1), "/cse/light1", 1, acp).code, 5001);
    let alone = Bench::with_lights();
    let reply = lamp(&alone, json!({}));
    assert_eq!((reply.code, reply.why().contains("no registrar CSE")), (5001, true));
}

#[test]
fn outcomes_decide_about_the_next_attempt() {
    let mut bench = home();
    assert_eq!(lamp(&bench, json!({})).code, 2001);
    // The request may have arrived although there was no response.
    done(&bench, AnnouncementOutcome::Attempted);
    let mut bench = {
        bench.pass(1);
        bench.reopen()
    };
    let task = done(&bench, AnnouncementOutcome::Delayed);
    assert!(task.may_exist);
    assert!(next(&bench).is_none());
    bench.pass(600);
    done(&bench, at("/in-cse/cntA-1"));
    // The announcement is extended before it expires.
    assert!(next(&bench).is_none());
    bench.pass(8 * 365 * 24 * 3600);
    assert!(next(&bench).is_none(), "the light has expired");
    let bench = home();
    assert_eq!(lamp(&bench, json!({"et": "20261124T103000"})).code, 2001);
    done(&bench, at("/in-cse/cntA-1"));
    let mut bench = bench;
    bench.pass(40 * 60);
    assert_eq!(
        done(&bench, AnnouncementOutcome::Gone).position,
        Position::At("/in-cse/cntA-1".into())
    );
    assert_eq!(bench.retrieve(LIGHT1, LAMP).attributes()["at"], Value::Null);
    assert_eq!(done(&bench, AnnouncementOutcome::Refused).position, Position::BelowCse);
    // An announcement that the registrar CSE cannot accept is not repeated.
    bench.pass(3600 * 24);
    assert!(next(&bench).is_none());
}

#[test]
fn announcements_end_with_their_resources() {
    let bench = home();
    assert_eq!(lamp(&bench, json!({"mni": 1})).code, 2001);
    done(&bench, at("/in-cse/cntA-1"));
    let inner = json!({"rn": "inner", "at": ["/in-cse"]});
    assert_eq!(bench.container(LIGHT1, LAMP, inner).code, 2001);
    let task = done(&bench, at("/in-cse/cntA-2"));
    assert_eq!(task.position, Position::Below("/in-cse/cntA-1".into()));
    for n in 1..3 {
        let instance = json!({"con": n, "at": ["/in-cse"], "aa": ["con"]});
        assert_eq!(bench.instance(LIGHT1, LAMP, instance).code, 2001);
        if n == 2 {
            // The first one is not there any more.
            assert_eq!(deleted_first(&bench), "/in-cse/cinA-1");
        }
        let task = done(&bench, at(&format!("/in-cse/cinA-{n}")));
        assert_eq!(task.representation["m2m:cinA"]["con"], n);
    }
    assert_eq!(bench.delete(LIGHT1, "/cse/light1").code, 2002);
    let bench = bench.reopen();
    let mut bench = bench;
    bench.sweep();
    assert_eq!(deleted(&bench), ["/in-cse/cinA-2", "/in-cse/cntA-1", "/in-cse/cntA-2"]);
    bench.cse().store().assert_consistent();
    // A deletion that cannot be carried out is repeated.
    assert_eq!(bench.register(LIGHT1, "light1").code, 2001);
    assert_eq!(lamp(&bench, json!({})).code, 2001);
    done(&bench, at("/in-cse/cntA-3"));
    assert_eq!(bench.delete(LIGHT1, LAMP).code, 2002);
    let task = next(&bench).unwrap();
    bench.cse().announcement_outcome(&task, &AnnouncementOutcome::Delayed, bench.time()).unwrap();
    assert!(next(&bench).is_none());
    bench.pass(600);
    assert_eq!(deleted(&bench), ["/in-cse/cntA-3"]);
}

/// Performs the next task, which must be a deletion.
fn deleted_first(bench: &Bench) -> String {
    let task = next(bench).unwrap();
    let AnnouncementTask::Delete(deletion) = &task else { panic!("another task: {task:?}") };
    bench.cse().announcement_outcome(&task, &AnnouncementOutcome::Gone, bench.time()).unwrap();
    deletion.address.clone()
}

#[test]
fn resource_that_is_deleted_meanwhile_is_withdrawn() {
    let bench = home();
    assert_eq!(lamp(&bench, json!({})).code, 2001);
    let task = AnnouncementTask::Synchronize(Box::new(synchronization(&bench)));
    assert_eq!(bench.delete(LIGHT1, LAMP).code, 2002);
    bench.cse().announcement_outcome(&task, &at("/in-cse/cntA-1"), bench.time()).unwrap();
    assert_eq!(deleted(&bench), ["/in-cse/cntA-1"]);
}

#[test]
fn new_registrar_cse_gets_the_announcements() {
    let bench = home();
    assert_eq!(lamp(&bench, json!({})).code, 2001);
    done(&bench, at("/in-cse/cntA-1"));
    let registrar = Some(CseId::parse("in-2").unwrap());
    let bench = bench.reopen_as(Settings { registrar, ..settings() }).unwrap();
    assert_eq!(bench.update(LIGHT1, LAMP, json!({"m2m:cnt": {"lbl": ["x"]}})).code, 2004);
    assert_eq!(done(&bench, at("/in-2/cntA-9")).position, Position::BelowCse);
    assert_eq!(bench.retrieve(LIGHT1, LAMP).attributes()["at"], json!(["/in-2/cntA-9"]));
}

/// A request without a response does not delay other announcements, and an update of the resource
/// does not repeat it before.
#[test]
fn failed_announcement_is_set_back() {
    let mut bench = home();
    assert_eq!(lamp(&bench, json!({})).code, 2001);
    assert_eq!(bench.container(LIGHT1, "/cse/light1", announced("second")).code, 2001);
    let first = done(&bench, AnnouncementOutcome::Failed(Duration::from_secs(64)));
    let second = done(&bench, at("/in-cse/cntA-2"));
    assert_ne!(first.link, second.link);
    assert!(next(&bench).is_none());
    bench.pass(63);
    assert!(next(&bench).is_none());
    bench.pass(1);
    assert_eq!(done(&bench, at("/in-cse/cntA-1")).link, first.link);
    // The same holds for a deletion.
    assert_eq!(bench.delete(LIGHT1, LAMP).code, 2002);
    assert_eq!(bench.delete(LIGHT1, "/cse/light1/second").code, 2002);
    let task = next(&bench).unwrap();
    let failed = AnnouncementOutcome::Failed(Duration::from_secs(64));
    bench.cse().announcement_outcome(&task, &failed, bench.time()).unwrap();
    assert_eq!(deleted(&bench).len(), 1);
    bench.pass(64);
    assert_eq!(deleted(&bench), [task.id()]);
}

/// A resource that cannot be read does not delay other announcements.
#[test]
fn damaged_resource_does_not_block_announcements() {
    let bench = home();
    let created = lamp(&bench, json!({}));
    let ri = created.attributes()["ri"].as_str().unwrap().to_owned();
    bench.cse().store().damage(&ri);
    assert_eq!(bench.container(LIGHT1, "/cse/light1", announced("second")).code, 2001);
    for n in 0..2 {
        let Some(AnnouncementTask::Synchronize(task)) = next(&bench) else { panic!("no task") };
        let done = AnnouncementTask::Synchronize(task);
        bench
            .cse()
            .announcement_outcome(&done, &at(&format!("/in-cse/cntA-{n}")), bench.time())
            .unwrap();
        if n == 0 {
            assert!(next(&bench).is_none());
            let change = json!({"m2m:cnt": {"lbl": ["x"]}});
            assert_eq!(bench.update(LIGHT1, "/cse/light1/second", change).code, 2004);
        }
    }
}

/// After a lost response, the announcement has the state of the attempt, and is updated.
#[test]
fn found_announcement_is_updated() {
    let bench = home();
    let acp = json!({"m2m:acp": {"rn": "acp", "pv": {"acr": [{"acor": [LIGHT1], "acop": 63}]},
        "pvs": {"acr": [{"acor": [LIGHT1], "acop": 63}]}}});
    assert_eq!(bench.create(Some(LIGHT1), "/cse/light1", 1, acp).code, 2001);
    let acpi = json!(["cse/light1/acp", "/in-cse/cse/family"]);
    assert_eq!(lamp(&bench, json!({"lbl": ["old"], "acpi": acpi})).code, 2001);
    done(&bench, AnnouncementOutcome::Attempted);
    for change in [json!({"lbl": null}), json!({"acpi": ["cse/light1/acp"]})] {
        assert_eq!(bench.update(LIGHT1, LAMP, json!({ "m2m:cnt": change })).code, 2004);
    }
    let found = AnnouncementOutcome::Found("/in-cse/cntA-1".into());
    assert!(done(&bench, found).may_exist);
    assert_eq!(bench.retrieve(LIGHT1, LAMP).attributes()["at"], json!(["/in-cse/cntA-1"]));
    let task = done(&bench, at("/in-cse/cntA-1"));
    assert_eq!(task.representation["m2m:cntA"].get("lbl"), Some(&Value::Null));
    let acpi = json!(["/mn-cse-123456/cse/light1/acp"]);
    assert_eq!(task.policies, Some(json!({"m2m:cntA": {"acpi": acpi}})));
    assert!(next(&bench).is_none());
}

/// The outcome for a former announcement of a resource does not count for the present one.
#[test]
fn outcome_of_former_announcement_is_ignored() {
    let bench = home();
    assert_eq!(lamp(&bench, json!({})).code, 2001);
    done(&bench, at("/in-cse/cntA-1"));
    assert_eq!(bench.update(LIGHT1, LAMP, json!({"m2m:cnt": {"lbl": ["x"]}})).code, 2004);
    let update = next(&bench).unwrap();
    assert_eq!(bench.update(LIGHT1, LAMP, json!({"m2m:cnt": {"at": null}})).code, 2004);
    assert_eq!(deleted(&bench), ["/in-cse/cntA-1"]);
    let again = json!({"m2m:cnt": {"at": ["/in-cse"]}});
    assert_eq!(bench.update(LIGHT1, LAMP, again.clone()).code, 2004);
    bench.cse().announcement_outcome(&update, &at("/in-cse/cntA-1"), bench.time()).unwrap();
    let create = next(&bench).unwrap();
    let AnnouncementTask::Synchronize(task) = &create else { panic!("no synchronization") };
    assert_eq!(task.position, Position::BelowCse);
    // Another change while it is created, with an announcement that was requested anew.
    assert_eq!(bench.update(LIGHT1, LAMP, json!({"m2m:cnt": {"at": null}})).code, 2004);
    assert_eq!(bench.update(LIGHT1, LAMP, again).code, 2004);
    bench.cse().announcement_outcome(&create, &at("/in-cse/cntA-2"), bench.time()).unwrap();
    assert_eq!(done(&bench, at("/in-cse/cntA-2")).position, Position::At("/in-cse/cntA-2".into()));
    assert!(next(&bench).is_none());
}

/// Many announcements and deletions of one AE do not delay those of another.
#[test]
fn owners_take_turns() {
    let bench = home();
    for n in 0..4 {
        let name = format!("lamp{n}");
        assert_eq!(bench.container(LIGHT1, "/cse/light1", announced(&name)).code, 2001);
        done(&bench, at(&format!("/in-cse/cntA-{n}")));
    }
    assert_eq!(bench.container(LIGHT2, "/cse/light2", announced("plug")).code, 2001);
    for n in 0..4 {
        assert_eq!(bench.delete(LIGHT1, &format!("/cse/light1/lamp{n}")).code, 2002);
    }
    let (mut after, mut owners) = (String::new(), Vec::new());
    while let Some(task) = bench.cse().next_announcement(&after, bench.time()).unwrap() {
        task.owner().clone_into(&mut after);
        owners.push(after.clone());
        let outcome = match &task {
            AnnouncementTask::Delete(_) => AnnouncementOutcome::Gone,
            AnnouncementTask::Synchronize(_) => at("/in-cse/cntA-9"),
        };
        assert!(task.registrant().is_some());
        bench.cse().announcement_outcome(&task, &outcome, bench.time()).unwrap();
    }
    assert_eq!(owners, [LIGHT1, LIGHT2, LIGHT1, LIGHT1, LIGHT1]);
}

/// A failure of a former announcement of a resource does not delay the present one.
#[test]
fn failure_of_former_announcement_is_ignored() {
    let bench = home();
    assert_eq!(lamp(&bench, json!({})).code, 2001);
    let former = next(&bench).unwrap();
    for at in [Value::Null, json!(["/in-cse"])] {
        assert_eq!(bench.update(LIGHT1, LAMP, json!({"m2m:cnt": { "at": at }})).code, 2004);
    }
    let failed = AnnouncementOutcome::Failed(Duration::from_secs(64));
    bench.cse().announcement_outcome(&former, &failed, bench.time()).unwrap();
    bench.cse().store().assert_consistent();
    assert_eq!(done(&bench, at("/in-cse/cntA-1")).link, format!("/mn-cse-123456/{}", former.id()));
    assert!(next(&bench).is_none());
}

/// An entry of the index that no announcement has is removed, and not found again.
#[test]
fn stale_entries_are_removed() {
    for address in [None, Some("/in-cse/cntA-1")] {
        let bench = home();
        let ri = lamp(&bench, json!({})).attributes()["ri"].as_str().unwrap().to_owned();
        if let Some(address) = address {
            done(&bench, at(address));
        }
        let add = |writer: &mut Writer<'_>| {
            writer.move_announcement(Some(LIGHT1), &ri, None, Some(5))?;
            writer.move_announcement(Some(LIGHT2), &ri, None, Some(6))
        };
        bench.cse().store().write(&RequestBudget::unlimited(), add).unwrap();
        if address.is_none() {
            let task = next(&bench).unwrap();
            bench.cse().announcement_outcome(&task, &at("/in-cse/cntA-1"), bench.time()).unwrap();
        }
        assert!(next(&bench).is_none());
        bench.cse().store().assert_consistent();
    }
}
