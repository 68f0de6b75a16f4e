//! Members of groups and targets of subscriptions denote what had the name when they were stored.

use serde_json::json;

use super::names::*;
use super::policies::rule;
use crate::testing::*;

pub(super) fn group(bench: &Bench, members: &[&str]) {
    let grp = json!({"m2m:grp": {"rn": "grp", "mnm": 8, "mid": members}});
    let reply = bench.create(Some(LIGHT1), "/cse/light1", 9, grp);
    assert_eq!(reply.code, 2001, "{}", reply.why());
}

pub(super) fn fan_out(bench: &Bench, content: &str) -> Vec<u64> {
    let reply = bench.instance(LIGHT1, "/cse/light1/grp/fopt", json!({ "con": content }));
    assert_eq!(reply.code, 2000, "{}", reply.why());
    let parts = reply.json["m2m:agr"]["m2m:rsp"].as_array().unwrap();
    parts.iter().map(|part| part["rsc"].as_u64().unwrap()).collect()
}

/// Creates a container of the hub that is open to all.
pub(super) fn open_container(bench: &Bench) {
    let acp = json!({"m2m:acp": {"rn": "acp", "pv": rule(&["all"], 63), "pvs": rule(&[HUB], 63)}});
    assert_eq!(bench.create(Some(HUB), "/cse/hub", 1, acp).code, 2001);
    let cnt = json!({"rn": "in", "acpi": ["cse/hub/acp"]});
    assert_eq!(bench.container(HUB, "/cse/hub", cnt).code, 2001);
}

#[test]
fn group_member_is_bound_to_resource() {
    for how in WAYS {
        let mut bench = Bench::with_lights();
        hub(&bench, "one");
        open_container(&bench);
        group(&bench, &["cse/hub/in", "Chub/in", "cse/light1/state"]);
        assert_eq!(fan_out(&bench, "one"), [2001, 2001, 2001]);
        leave(&mut bench, how);
        hub(&bench, "two");
        open_container(&bench);
        assert_eq!(fan_out(&bench, "secret"), [4004, 4004, 2001], "{how}");
        assert_eq!(bench.retrieve(HUB, "/cse/hub/in/la").code, 4004);
        // The response shows the attribute as written; the member must be removed.
        let shown = bench.retrieve(LIGHT1, "/cse/light1/grp");
        assert_eq!(shown.attributes()["mid"][0], "cse/hub/in");
        let again = json!({"m2m:grp": {"mid": ["cse/hub/in"]}});
        assert_eq!(bench.update(LIGHT1, "/cse/light1/grp", again.clone()).code, 4000);
        let none = json!({"m2m:grp": {"mid": []}});
        assert_eq!(bench.update(LIGHT1, "/cse/light1/grp", none).code, 2004);
        assert_eq!(bench.update(LIGHT1, "/cse/light1/grp", again).code, 2004);
        assert_eq!(fan_out(&bench, "two"), [2001]);
    }
}

/// The latest instance belongs to its container, and an AE to its registrant.
#[test]
fn virtual_resources_and_aes_as_members() {
    let bench = Bench::with_lights();
    hub(&bench, "one");
    let acp = json!({"m2m:acp": {"rn": "acp", "pv": rule(&["all"], 63), "pvs": rule(&[HUB], 63)}});
    assert_eq!(bench.create(Some(HUB), "/cse/hub", 1, acp).code, 2001);
    let open = json!({"m2m:ae": {"acpi": ["cse/hub/acp"]}});
    assert_eq!(bench.update(HUB, "/cse/hub", open).code, 2004);
    assert_eq!(bench.instance(LIGHT1, STATE, json!({"con": 1})).code, 2001);
    group(&bench, &["cse/light1/state/la", "Chub"]);
    let answers = |bench: &Bench| {
        let reply = bench.retrieve(LIGHT1, "/cse/light1/grp/fopt");
        let parts = reply.json["m2m:agr"]["m2m:rsp"].as_array().unwrap().clone();
        parts.iter().map(|part| part["rsc"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(answers(&bench), [2000, 2000]);
    assert_eq!(bench.delete(HUB, "/cse/hub").code, 2002);
    hub(&bench, "two");
    let acp = json!({"m2m:acp": {"rn": "acp", "pv": rule(&["all"], 63), "pvs": rule(&[HUB], 63)}});
    assert_eq!(bench.create(Some(HUB), "/cse/hub", 1, acp).code, 2001);
    let open = json!({"m2m:ae": {"acpi": ["cse/hub/acp"]}});
    assert_eq!(bench.update(HUB, "/cse/hub", open).code, 2004);
    assert_eq!(bench.retrieve(LIGHT1, "/cse/hub").code, 2000);
    assert_eq!(answers(&bench), [2000, 4004]);
}

#[test]
fn reused_target_name_is_not_notified() {
    for how in WAYS {
        for target in ["cse/hub", HUB, "/mn-cse-123456/Chub"] {
            let mut bench = Bench::with_lights();
            hub(&bench, "one");
            let sub = json!({"rn": "sub", "nu": [target], "su": target, "enc": {"net": [3]}});
            let made = agree(&bench, subscribe(&bench, LIGHT1, STATE, sub));
            assert_eq!(made.code, 2001, "{}", made.why());
            let tell = |bench: &Bench| {
                bench.instance(LIGHT1, STATE, json!({"con": 1})).notifications.len()
            };
            assert_eq!(tell(&bench), 1);
            leave(&mut bench, how);
            assert_eq!(tell(&bench), 0);
            hub(&bench, "two");
            assert_eq!(tell(&bench), 0, "{how} {target}");
            let again = json!({"m2m:sub": {"nu": [target]}});
            let again = bench.update(LIGHT1, "/cse/light1/state/sub", again);
            assert_eq!(again.code, 4000, "{}", again.why());
            assert_eq!(bench.delete(HUB, "/cse/hub").code, 2002);
            hub(&bench, "one");
            assert_eq!(tell(&bench), 1, "{how} {target}");
            assert_eq!(bench.delete(HUB, "/cse/hub").code, 2002);
            hub(&bench, "two");
            // Nor of the end of the subscription.
            let gone = bench.delete(LIGHT1, "/cse/light1/state/sub");
            assert_eq!((gone.code, gone.notifications.len()), (2002, 0), "{how} {target}");
        }
    }
}

/// A subscriber's privileges apply, and not those of an AE that has taken its name.
#[test]
fn reused_subscriber_name_has_no_subscription() {
    let bench = Bench::with_lights();
    hub(&bench, "one");
    // All may retrieve the resource, so a missing privilege is not the reason.
    lights_policy(&bench, &["all"]);
    let sub = json!({"rn": "sub", "nu": ["Clight-AE2"], "enc": {"net": [3]}});
    let reach = json!({"m2m:ae": {"rr": true, "poa": ["http://c.d/"]}});
    assert_eq!(bench.update(LIGHT2, "/cse/light2", reach).code, 2004);
    let made = agree(&bench, subscribe(&bench, HUB, STATE, sub));
    assert_eq!(made.code, 2001, "{}", made.why());
    let tell = || bench.instance(LIGHT1, STATE, json!({"con": 1})).notifications.len();
    assert_eq!(tell(), 1);
    assert_eq!(bench.delete(HUB, "/cse/hub").code, 2002);
    hub(&bench, "two");
    assert_eq!(tell(), 0);
    assert_eq!(bench.delete(HUB, "/cse/hub").code, 2002);
    hub(&bench, "one");
    assert_eq!(tell(), 1);
}
