//! Announcements of the resources of registered CSEs.

use saegis_onem2m::id::CredentialId;
use saegis_onem2m::primitive::{AssociationCredential, Operation};
use serde_json::{Value, json};

use crate::Settings;
use crate::testing::{Bench, LIGHT1, Reply, request, settings};

const MN: &str = "/mn-1";

/// Returns an IN-CSE at which a CSE is registered.
fn infrastructure() -> Bench {
    let bench = Bench::lights(Settings { cse_type: 1, ..settings() });
    let csr = json!({"m2m:csr": {"rn": "mn", "cb": "/mn-1/cse", "rr": false}});
    assert_eq!(bench.create(Some(MN), "/cse", 16, csr).code, 2001);
    bench
}

fn own(bench: &Bench, from: &str, lnk: &str) -> Reply {
    let own = json!({"m2m:cbA": {"lnk": lnk, "srv": ["3"]}});
    bench.create(Some(from), "/cse", 10005, own)
}

fn announce(bench: &Bench, from: &str, path: &str, more: Value) -> Reply {
    let mut all = json!({"lnk": "/mn-1/cnt-1"});
    for (name, value) in more.as_object().unwrap() {
        all[name] = value.clone();
    }
    bench.create(Some(from), path, 10003, json!({ "m2m:cntA": all }))
}

#[test]
fn registered_cse_announces_its_resources() {
    let bench = infrastructure();
    assert_eq!(own(&bench, MN, "/mn-1/mn-1").code, 2001);
    assert_eq!(own(&bench, MN, "/mn-1/mn-1").code, 4105);
    let acp = json!({"m2m:acp": {"rn": "acp", "pv": {"acr": [{"acor": [LIGHT1], "acop": 63}]},
        "pvs": {"acr": [{"acor": [LIGHT1], "acop": 63}]}}});
    assert_eq!(bench.create(Some(LIGHT1), "/cse/light1", 1, acp).code, 2001);
    let more = json!({"acpi": ["/mn-cse-123456/cse/light1/acp"], "lbl": ["lamp"], "mni": 5});
    let created = announce(&bench, MN, "/cbA-mn-1", more);
    assert_eq!(created.code, 2001, "{}", created.why());
    let ri = created.attributes()["ri"].as_str().unwrap().to_owned();
    let path = format!("/{ri}");
    let instance = json!({"m2m:cinA": {"lnk": "/mn-1/cin-1", "con": {"on": true}}});
    assert_eq!(bench.create(Some(MN), &path, 10004, instance).code, 2001);
    let flex = json!({"cod:binShAnnc": {
        "lnk": "/mn-1/fcnt-1", "cnd": "org.onem2m.common.moduleclass.binarySwitch",
    }});
    assert_eq!(bench.create(Some(MN), "/cbA-mn-1", 10028, flex.clone()).code, 2001);
    // The policy of this CSE lets the AE see it, but nobody else change it.
    assert_eq!(bench.retrieve(LIGHT1, &path).attributes()["lbl"], json!(["lamp"]));
    let found = bench.retrieve(LIGHT1, "/cse?fu=1&lbl=lamp");
    assert_eq!(found.found().len(), 1);
    let other = json!({"m2m:cntA": {"lbl": ["x"]}});
    assert_eq!(bench.update(LIGHT1, &path, other.clone()).code, 4103);
    assert_eq!(bench.delete(LIGHT1, &path).code, 4103);
    assert_eq!(announce(&bench, LIGHT1, &path, json!({})).code, 4103);
    assert_eq!(bench.update(MN, &path, other).code, 2004);
    let moved = json!({"m2m:cntA": {"lnk": "/other/cnt-1"}});
    assert_eq!(bench.update(MN, &path, moved).code, 4000);
    // With the privilege of a policy, another CSE still announces nothing below.
    let csr = json!({"m2m:csr": {"rn": "mn2", "cb": "/mn-2/cse", "rr": false}});
    assert_eq!(bench.create(Some("/mn-2"), "/cse", 16, csr).code, 2001);
    assert_eq!(announce(&bench, "/mn-2", &path, json!({"lnk": "/mn-2/x"})).code, 4103);
    assert_eq!(bench.delete(MN, "/cbA-mn-1").code, 2002);
    assert_eq!(bench.retrieve(MN, &path).code, 4004);
    assert_eq!(own(&bench, MN, "/mn-1/mn-1").code, 2001);
    bench.cse().store().assert_consistent();
}

#[test]
fn foreign_announcements_are_refused() {
    let bench = infrastructure();
    for (from, lnk, code) in [
        (MN, "/other/x", 4000),
        (MN, "/mn-cse-123456/cse", 4000),
        (MN, "cse/light1", 4000),
        ("/mn-2", "/mn-2/x", 4103),
        (LIGHT1, "/mn-1/x", 4103),
        ("/mn-1/Clight", "/mn-1/x", 4103),
        ("/mn-cse-123456", "/mn-cse-123456/x", 4103),
    ] {
        assert_eq!(own(&bench, from, lnk).code, code, "{from} {lnk}");
    }
    let without = bench.create(Some(MN), "/cse", 10005, json!({"m2m:cbA": {}}));
    assert_eq!(without.code, 4000);
    assert_eq!(own(&bench, MN, "/mn-1/mn-1").code, 2001);
    for (path, more, code) in [
        ("/cse", json!({}), 4103),
        ("/cse/light1", json!({}), 4103),
        ("/cbA-mn-1", json!({"lnk": "/mn-2/x"}), 4000),
        ("/cbA-mn-1", json!({"lnk": null}), 4000),
        ("/cbA-mn-1", json!({"cr": null}), 4000),
        ("/cbA-mn-1", json!({"daci": ["x"]}), 5001),
    ] {
        let reply = announce(&bench, MN, path, more.clone());
        assert_eq!(reply.code, code, "{path} {more} {}", reply.why());
    }
    for (root, cnd, code) in [
        ("cod:binShAnnc", "org.example.unknown", 4125),
        ("cod:binSh", "org.onem2m.common.moduleclass.binarySwitch", 4000),
        ("cod:otherAnnc", "org.onem2m.common.moduleclass.binarySwitch", 4000),
    ] {
        let flex = json!({ root: {"lnk": "/mn-1/fcnt-1", "cnd": cnd} });
        assert_eq!(bench.create(Some(MN), "/cbA-mn-1", 10028, flex).code, code, "{root} {cnd}");
    }
    let wrong = json!({"cod:binShAnnc": {
        "lnk": "/mn-1/fcnt-1", "cnd": "org.onem2m.common.moduleclass.binarySwitch", "state": "x",
    }});
    assert_eq!(bench.create(Some(MN), "/cbA-mn-1", 10028, wrong).code, 4000);
    // The instance of an announced container needs that container above.
    let instance = json!({"m2m:cinA": {"lnk": "/mn-1/cin-1"}});
    assert_eq!(bench.create(Some(MN), "/cbA-mn-1", 10004, instance).code, 4108);
}

/// A CSE-ID is a text. Its announcements belong to the credential that registered it.
#[test]
fn announcements_end_if_another_credential_registers() {
    let bench = Bench::lights(Settings { cse_type: 1, ..settings() });
    let register = |credential: &str| {
        let csr = json!({"m2m:csr": {"rn": "mn", "cb": "/mn-1/cse", "rr": false}});
        let mut request = request(Operation::Create, "/cse", Some(MN), Some(csr));
        request.resource_type = Some(16);
        let id = CredentialId::parse(credential).unwrap();
        request.credential = Some(AssociationCredential { id, learns_ae_id: false });
        assert_eq!(bench.send(&request).code, 2001);
    };
    register("12-one");
    assert_eq!(own(&bench, MN, "/mn-1/mn-1").code, 2001);
    let created = announce(&bench, MN, "/cbA-mn-1", json!({}));
    let path = format!("/{}", created.attributes()["ri"].as_str().unwrap());
    // More than one transaction removes.
    for n in 0..300 {
        let more = json!({"lnk": format!("/mn-1/cnt-{n}")});
        assert_eq!(announce(&bench, MN, "/cbA-mn-1", more).code, 2001);
    }
    // The same CSE registers again, and has its announcements.
    assert_eq!(bench.delete(MN, "/cse/mn").code, 2002);
    register("12-one");
    assert_eq!(bench.retrieve(MN, &path).code, 2000);
    assert_eq!(bench.delete(MN, "/cse/mn").code, 2002);
    register("12-two");
    assert_eq!(bench.retrieve(MN, &path).code, 4004);
    assert_eq!(bench.retrieve(MN, "/cbA-mn-1").code, 4004);
    bench.cse().store().assert_consistent();
    assert_eq!(own(&bench, MN, "/mn-1/mn-1").code, 2001);
}
