//! Subscriptions through a group that forwards the notifications (`nfu`).

use saegis_onem2m::rsc::Rsc;
use serde_json::{Value, json};

use super::policies::{govern, policy, rule};
use crate::testing::{Bench, LIGHT1, LIGHT2, Reply, agree, settings, subscribe};
use crate::{Checked, Handled, Notification};

const GROUP: &str = "/cse/light1/group";
const FOPT: &str = "/cse/light1/group/fopt";
const STATE: &str = "/cse/light1/state";
const LOG: &str = "/cse/light1/log";
const TARGET: &str = "http://a.b/";

/// Light 1 with `state` and `log`, and a group of them with additional attributes.
fn bench(group: Value) -> Bench {
    with_group(Bench::with_lights(), group)
}

fn with_group(bench: Bench, further: Value) -> Bench {
    assert_eq!(bench.container(LIGHT1, "/cse/light1", json!({"rn": "log"})).code, 2001);
    let mut group = json!({"rn": "group", "mnm": 9, "mid": ["cse/light1/state", "cse/light1/log"]});
    group.as_object_mut().unwrap().extend(further.as_object().unwrap().clone());
    let reply = bench.create(Some(LIGHT1), "/cse/light1", 9, json!({ "m2m:grp": group }));
    assert_eq!(reply.code, 2001, "{}", reply.why());
    bench
}

fn subscription(further: Value) -> Value {
    let mut sub = json!({"rn": "sub", "nu": [TARGET], "nfu": [TARGET], "enc": {"net": [3]}});
    sub.as_object_mut().unwrap().extend(further.as_object().unwrap().clone());
    sub
}

/// Subscribes through the group, with the agreement of the target.
#[track_caller]
fn forward(bench: &Bench, further: Value) {
    let reply = agree(bench, subscribe(bench, LIGHT1, FOPT, subscription(further)));
    assert_eq!(codes(&reply), [2001, 2001], "{}", reply.json);
}

#[track_caller]
fn codes(reply: &Reply) -> Vec<u64> {
    assert_eq!(reply.code, 2000, "{}", reply.why());
    let parts = reply.json["m2m:agr"]["m2m:rsp"].as_array().unwrap();
    parts.iter().map(|part| part["rsc"].as_u64().unwrap()).collect()
}

fn put(bench: &Bench, container: &str, value: u64) -> Vec<Notification> {
    let reply = bench.instance(LIGHT1, container, json!({ "con": value }));
    assert_eq!(reply.code, 2001, "{}", reply.why());
    reply.notifications
}

/// Returns the notifications in one aggregated notification to the target.
#[track_caller]
fn aggregated(all: &[Notification]) -> Vec<Value> {
    assert_eq!(all.len(), 1, "{all:?}");
    assert_eq!(all[0].to.to_string(), TARGET);
    let content: Value = serde_json::from_slice(&all[0].content).unwrap();
    content["m2m:agn"]["m2m:sgn"].as_array().unwrap().clone()
}

#[track_caller]
fn values(all: &[Notification]) -> Vec<Value> {
    aggregated(all).iter().map(|sgn| sgn["nev"]["rep"]["m2m:cin"]["con"].clone()).collect()
}

fn ri(bench: &Bench, path: &str) -> String {
    bench.retrieve(LIGHT1, path).attributes()["ri"].as_str().unwrap().to_owned()
}

#[test]
fn group_is_target_of_its_subscriptions() {
    let bench = bench(json!({}));
    forward(&bench, json!({}));
    let group = ri(&bench, GROUP);
    for path in [STATE, LOG] {
        let reply = bench.retrieve(LIGHT1, &format!("{path}/sub"));
        let sub = reply.attributes();
        assert_eq!(sub["nu"], json!([format!("/mn-cse-123456/{group}/fopt")]));
        assert_eq!(sub["gpi"], format!("/mn-cse-123456/{group}"));
        assert_eq!((&sub["nfu"], &sub["cr"]), (&json!([TARGET]), &json!(LIGHT1)));
    }
    bench.cse().store().assert_consistent();
}

#[test]
fn notification_of_each_member_completes_aggregation() {
    let bench = bench(json!({}));
    // A single address, as in TS-0004.
    forward(&bench, json!({"nfu": TARGET}));
    assert!(put(&bench, STATE, 1).is_empty());
    bench.cse().store().assert_consistent();
    let sent = put(&bench, LOG, 2);
    assert_eq!(values(&sent), [1, 2]);
    let all = aggregated(&sent);
    for (sgn, path) in all.iter().zip([STATE, LOG]) {
        assert_eq!(sgn["nfu"], TARGET, "{sgn}");
        assert_eq!(sgn["cr"], LIGHT1, "{sgn}");
        let sur = format!("/mn-cse-123456/{}", ri(&bench, &format!("{path}/sub")));
        assert_eq!(sgn["sur"], sur);
    }
    assert_eq!(sent[0].about, format!("/mn-cse-123456/{}/fopt", ri(&bench, GROUP)));
    bench.cse().store().assert_consistent();
}

#[test]
fn aggregation_ends_after_its_duration() {
    for (group, seconds) in [
        (json!({}), 60),
        (json!({"nar": {"num": 9}}), 60),
        (json!({"nar": {"dur": "PT5S"}}), 5),
        (json!({"nar": {"num": 9, "dur": "PT5S"}}), 5),
    ] {
        let mut bench = bench(group.clone());
        forward(&bench, json!({}));
        assert!(put(&bench, STATE, 1).is_empty());
        bench.pass(seconds - 1);
        assert!(bench.take_due().is_empty(), "{group}");
        let bench = {
            // It survives a restart, and counts from the first notification.
            let mut bench = bench.reopen();
            bench.pass(1);
            bench
        };
        assert_eq!(values(&bench.take_due()), [1], "{group}");
        assert!(bench.take_due().is_empty());
        bench.cse().store().assert_consistent();
    }
}

#[test]
fn group_determines_number_of_notifications() {
    let bench = bench(json!({"nar": {"num": 3}}));
    forward(&bench, json!({}));
    assert_eq!(
        bench.retrieve(LIGHT1, GROUP).attributes()["nar"],
        json!({"num": 3, "dur": "PT60S"})
    );
    assert!(put(&bench, STATE, 1).is_empty() && put(&bench, STATE, 2).is_empty());
    assert_eq!(values(&put(&bench, LOG, 3)), [1, 2, 3]);
    // A change of the group applies to what waits.
    assert!(put(&bench, STATE, 4).is_empty() && put(&bench, LOG, 5).is_empty());
    let change = |nar: Value| bench.update(LIGHT1, GROUP, json!({"m2m:grp": { "nar": nar }}));
    let reply = change(json!({"num": 2}));
    assert_eq!(reply.code, 2004, "{}", reply.why());
    assert_eq!(values(&reply.notifications), [4, 5]);
    assert_eq!(reply.attributes()["nar"]["dur"], "PT60S");
    for bad in [json!(1), json!({"num": 0}), json!({"dur": "soon"}), json!({"x": 1})] {
        assert_eq!(change(bad.clone()).code, 4000, "{bad}");
        let group = json!({"m2m:grp": {"mnm": 1, "mid": [], "nar": bad}});
        assert_eq!(bench.create(Some(LIGHT1), "/cse/light1", 9, group).code, 4000);
    }
    assert_eq!(change(Value::Null).code, 2004);
    bench.cse().store().assert_consistent();
}

#[test]
fn target_is_verified_once_for_all_members() {
    let bench = bench(json!({}));
    let handled = subscribe(&bench, LIGHT1, FOPT, subscription(json!({})));
    let Handled::Verify(target) = handled else { panic!("{handled:?}") };
    let asked = target.notification().clone();
    assert_eq!(asked.to.to_string(), TARGET);
    let content: Value = serde_json::from_slice(&asked.content).unwrap();
    let sur = format!("/mn-cse-123456/{}/fopt", ri(&bench, GROUP));
    assert_eq!(content, json!({"m2m:sgn": {"vrq": true, "sur": sur, "cr": LIGHT1}}));
    let Checked::Refused(answer) = target.answered(Rsc::SubscriptionCreatorHasNoPrivilege) else {
        panic!("it was taken")
    };
    assert_eq!(Reply::of(answer).code, 5204);
    assert_eq!(bench.retrieve(LIGHT1, "/cse/light1/state/sub").code, 4004);
    // The originator itself is not verified.
    let sub = subscription(json!({"nu": [LIGHT1], "nfu": LIGHT1}));
    let reply = bench.create(Some(LIGHT1), FOPT, 23, json!({ "m2m:sub": sub }));
    assert_eq!(codes(&reply), [2001, 2001]);
}

#[test]
fn only_fan_out_point_makes_group_the_target() {
    let bench = bench(json!({}));
    forward(&bench, json!({}));
    let address = bench.retrieve(LIGHT1, "/cse/light1/state/sub").attributes()["nu"].clone();
    let gpi = format!("/mn-cse-123456/{}", ri(&bench, GROUP));
    for (sub, code) in [
        (json!({"nu": address, "nfu": TARGET, "gpi": gpi}), 5204),
        (json!({"nu": address, "gpi": gpi}), 5204),
        (json!({"nu": [FOPT.trim_start_matches('/')], "nfu": TARGET, "gpi": gpi}), 5204),
        (json!({"nu": [LIGHT1], "nfu": LIGHT1}), 4000),
        (json!({"nu": [LIGHT1], "nfu": [LIGHT1, TARGET], "gpi": gpi}), 4000),
        (json!({"nu": [LIGHT1], "nfu": [], "gpi": gpi}), 4000),
        (json!({"nu": [LIGHT1], "nfu": 1, "gpi": gpi}), 4000),
        (json!({"nu": [LIGHT1], "nfu": LIGHT1, "enc": {"net": [7]}, "gpi": gpi}), 4000),
    ] {
        let reply = bench.create(Some(LIGHT1), STATE, 23, json!({ "m2m:sub": sub }));
        assert_eq!(reply.code, code, "{sub}: {}", reply.why());
    }
    for (sub, code) in [
        (json!({"nfu": ["http://c.d/"]}), 4000),
        (json!({"nu": [TARGET, LIGHT1]}), 4000),
        (json!({"nu": ["https://a.b/"], "nfu": ["https://a.b/"]}), 5001),
        (json!({"nu": ["Cnobody"], "nfu": ["Cnobody"]}), 5204),
    ] {
        let content = json!({ "m2m:sub": subscription(sub.clone()) });
        let reply = bench.create(Some(LIGHT1), FOPT, 23, content);
        assert_eq!(reply.code, code, "{sub}: {}", reply.why());
    }
}

#[test]
fn forwarding_is_updated_with_agreement() {
    let bench = bench(json!({}));
    forward(&bench, json!({}));
    let sub = "/cse/light1/state/sub";
    let change = |attributes: Value| bench.update(LIGHT1, sub, json!({ "m2m:sub": attributes }));
    for bad in [json!({"nfu": null}), json!({"gpi": null})] {
        assert_eq!(change(bad.clone()).code, 4000, "{bad}");
    }
    assert_eq!(change(json!({"nfu": "https://a.b/"})).code, 5001);
    assert_eq!(change(json!({"exc": 5})).code, 2004);
    let content = json!({"m2m:sub": {"nfu": "http://c.d/"}});
    let update = crate::testing::request(
        saegis_onem2m::primitive::Operation::Update,
        sub,
        Some(LIGHT1),
        Some(content),
    );
    let handled = bench.handle(&update);
    assert!(matches!(handled, Handled::Verify(_)), "{handled:?}");
    assert_eq!(agree(&bench, handled).code, 2004);
    // Each target has its own aggregation.
    assert!(put(&bench, STATE, 1).is_empty() && put(&bench, LOG, 2).is_empty());
    assert_eq!(change(json!({"nu": [LIGHT1]})).code, 2004);
    bench.cse().store().assert_consistent();
}

#[test]
fn targets_are_aggregated_separately() {
    let mut bench = bench(json!({"nar": {"num": 2, "dur": "PT10S"}}));
    forward(&bench, json!({"nu": [TARGET, LIGHT1], "nfu": [TARGET, LIGHT1]}));
    let poa = json!({"m2m:ae": {"poa": ["http://x.y/"], "rr": true}});
    assert_eq!(bench.update(LIGHT1, "/cse/light1", poa).code, 2004);
    assert!(put(&bench, STATE, 1).is_empty());
    let to: Vec<_> = put(&bench, LOG, 2).iter().map(|sent| sent.to.to_string()).collect();
    assert_eq!(to, [TARGET, "http://x.y/"]);
    // Another subscriber has its own time.
    let acp = policy(&bench, "open", rule(&["all"], 63));
    assert_eq!(acp.code, 2001, "{}", acp.why());
    for path in [STATE, LOG] {
        assert_eq!(govern(&bench, LIGHT1, path, &["cse/light1/open"]), 2004);
    }
    let acpi = json!({"m2m:grp": {"acpi": ["cse/light1/open"]}});
    assert_eq!(bench.update(LIGHT1, GROUP, acpi).code, 2004);
    assert!(put(&bench, STATE, 3).is_empty());
    bench.pass(6);
    let other = subscription(json!({"rn": "other", "nu": ["http://c.d/"], "nfu": "http://c.d/"}));
    assert_eq!(codes(&agree(&bench, subscribe(&bench, LIGHT2, FOPT, other))), [2001, 2001]);
    let other = put(&bench, LOG, 4);
    assert_eq!(other.len(), 2, "the first two are complete");
    bench.pass(4);
    assert!(bench.take_due().is_empty());
    bench.pass(6);
    let due = bench.take_due();
    assert_eq!((due.len(), due[0].to.to_string().as_str()), (1, "http://c.d/"));
    bench.cse().store().assert_consistent();
}

#[test]
fn batches_are_not_nested() {
    let bench = bench(json!({"nar": {"num": 3}}));
    forward(&bench, json!({"bn": {"num": 2}}));
    assert!(put(&bench, STATE, 1).is_empty() && put(&bench, LOG, 2).is_empty());
    assert!(put(&bench, STATE, 3).is_empty());
    assert_eq!(values(&put(&bench, LOG, 4)), [1, 3, 2]);
    bench.cse().store().assert_consistent();
}

#[test]
fn only_latest_notification_waits_in_group() {
    let mut bench = bench(json!({"nar": {"dur": "PT5S"}}));
    forward(&bench, json!({"ln": true}));
    for value in 1..=3 {
        assert!(put(&bench, STATE, value).is_empty());
    }
    assert!(put(&bench, LOG, 4).is_empty());
    bench.pass(5);
    let due = bench.take_due();
    assert_eq!((values(&due), due[0].category), (vec![json!(3), json!(4)], Some(4)));
    bench.cse().store().assert_consistent();
}

#[test]
fn removed_member_is_not_forwarded() {
    let bench = bench(json!({"nar": {"num": 1}}));
    forward(&bench, json!({}));
    let change = json!({"m2m:grp": {"mid": ["cse/light1/log"]}});
    assert_eq!(bench.update(LIGHT1, GROUP, change).code, 2004);
    assert!(put(&bench, STATE, 1).is_empty());
    assert_eq!(values(&put(&bench, LOG, 2)), [2]);
    // Nor are those of a group that is gone.
    assert_eq!(bench.delete(LIGHT1, GROUP).code, 2002);
    assert!(put(&bench, LOG, 3).is_empty());
    bench.cse().store().assert_consistent();
}

#[test]
fn last_notifications_of_subscription_are_forwarded() {
    let mut bench = bench(json!({"nar": {"num": 9, "dur": "PT5S"}}));
    forward(&bench, json!({"exc": 1, "enc": {"net": [2, 3]}}));
    assert!(put(&bench, STATE, 1).is_empty());
    assert_eq!(bench.retrieve(LIGHT1, "/cse/light1/state/sub").code, 4004);
    assert!(bench.delete(LIGHT1, LOG).notifications.is_empty());
    bench.pass(5);
    let due = bench.take_due();
    let events: Vec<_> = aggregated(&due).iter().map(|sgn| sgn["nev"]["net"].clone()).collect();
    assert_eq!(events, [3, 2]);
    bench.cse().store().assert_consistent();
}

#[test]
fn waiting_notifications_of_group_are_bounded() {
    let mut bench = bench(json!({"nar": {"num": 1000, "dur": "PT1H"}}));
    forward(&bench, json!({}));
    for value in 1..100 {
        assert!(put(&bench, STATE, value).is_empty(), "{value}");
    }
    assert_eq!(values(&put(&bench, STATE, 100)).len(), 100);
    let large = json!({"con": "x".repeat(60 << 10)});
    let sent: Vec<_> =
        (0..5).map(|_| bench.instance(LIGHT1, STATE, large.clone()).notifications.len()).collect();
    assert_eq!(sent, [0, 0, 0, 0, 1]);
    bench.cse().store().assert_consistent();
    // The deletion of the group ends them.
    assert!(put(&bench, STATE, 1).is_empty());
    assert_eq!(bench.delete(LIGHT1, GROUP).code, 2002);
    bench.pass(3600);
    assert!(bench.take_due().is_empty());
    bench.cse().store().assert_consistent();
}

#[test]
fn targets_of_group_at_a_time_are_bounded() {
    const NUMBER: usize = crate::notification::aggregation::MAX_WINDOWS;
    let bench = bench(json!({"nar": {"num": 9}}));
    let urls: Vec<_> = (0..NUMBER).map(|n| format!("http://a.b/{n}")).collect();
    forward(&bench, json!({"nu": urls, "nfu": urls}));
    forward(&bench, json!({"rn": "last", "nu": [TARGET], "nfu": TARGET}));
    // The oldest one is sent early.
    let sent = put(&bench, STATE, 1);
    assert_eq!((sent.len(), sent[0].to.to_string().as_str()), (1, "http://a.b/0"));
    bench.cse().store().assert_consistent();
}

#[test]
fn quota_of_group_owner_is_kept() {
    const MAX: u64 = 40_000;
    let mut small = settings();
    small.limits.max_instances = 1;
    small.limits.max_bytes_per_registree = MAX;
    let bench = with_group(Bench::lights(small), json!({"nar": {"num": 100, "dur": "PT1H"}}));
    forward(&bench, json!({}));
    let mut sent = 0;
    for _ in 0..60 {
        let reply = bench.instance(LIGHT1, STATE, json!({"con": "x".repeat(1000)}));
        assert_eq!(reply.code, 2001, "{}", reply.why());
        sent += reply.notifications.len();
    }
    assert!(sent > 0, "they are sent early");
    bench.cse().store().assert_consistent();
}

#[test]
fn unreceived_aggregation_is_repeated() {
    let mut bench = bench(json!({}));
    forward(&bench, json!({}));
    let put = |bench: &Bench, path: &str, value: u64| {
        let mut request = crate::testing::request(
            saegis_onem2m::primitive::Operation::Create,
            path,
            Some(LIGHT1),
            Some(json!({"m2m:cin": {"con": value}})),
        );
        request.resource_type = Some(4);
        match bench.handle(&request) {
            Handled::Done(answer) => answer.notifications,
            other => panic!("{other:?}"),
        }
    };
    assert!(put(&bench, STATE, 1).is_empty());
    let sent = put(&bench, LOG, 2);
    sent[0].receipt.failed();
    bench.cse().store().assert_consistent();
    bench.pass(1);
    assert!(bench.cse().due_notifications(bench.time()).unwrap().is_empty());
    // A subscription that has ended has no part in the repetition, also after a restart.
    assert_eq!(bench.delete(LIGHT1, "/cse/light1/state/sub").code, 2002);
    let mut bench = bench.reopen();
    bench.pass(1);
    let mut due = Vec::new();
    for _ in 0..3 {
        due.extend(bench.take_due());
        bench.pass(1);
    }
    assert_eq!(values(&due), [2]);
    assert!(bench.take_due().is_empty());
    bench.cse().store().assert_consistent();
}

#[test]
fn group_elsewhere_is_notified_with_forwarding_address() {
    let bench = bench(json!({}));
    let sub = json!({
        "nu": ["http://group.hosting/"], "nfu": ["http://a.b/"], "gpi": "/other/grp-1",
        "enc": {"net": [3]},
    });
    assert_eq!(agree(&bench, subscribe(&bench, LIGHT1, STATE, sub)).code, 2001);
    let sent = put(&bench, STATE, 1);
    assert_eq!((sent.len(), sent[0].to.to_string().as_str()), (1, "http://group.hosting/"));
    let content: Value = serde_json::from_slice(&sent[0].content).unwrap();
    assert_eq!(content["m2m:sgn"]["nfu"], "http://a.b/");
}
