//! An AE or resource with the name of a former one inherits nothing from it: names in resources
//! denote what had the name when they were stored.

use saegis_onem2m::id::CredentialId;
use saegis_onem2m::primitive::{AssociationCredential, Operation};
use serde_json::{Value, json};

use super::policies::rule;
use crate::settings::Settings;
use crate::testing::{Bench, LIGHT1, LIGHT2, Reply, agree, request, settings};

pub(super) const HUB: &str = "Chub";
pub(super) const STATE: &str = "/cse/light1/state";

/// Registers the AE with a credential.
pub(super) fn register(bench: &Bench, stem: &str, name: &str, credential: &str) -> Reply {
    let ae = json!({"m2m:ae": {"rn": name, "api": "Nhub", "rr": true, "poa": ["http://a.b/"]}});
    let mut request = request(Operation::Create, "/cse", Some(stem), Some(ae));
    request.resource_type = Some(2);
    let id = CredentialId::parse(&format!("12-{credential}@in.provider.com")).unwrap();
    request.credential = Some(AssociationCredential { id, learns_ae_id: false });
    bench.send(&request)
}

pub(super) fn hub(bench: &Bench, credential: &str) {
    let reply = register(bench, HUB, "hub", credential);
    assert_eq!(reply.code, 2001, "{}", reply.why());
}

/// Creates a policy below the hub that gives the hub all privileges.
pub(super) fn hubs_policy(bench: &Bench) {
    let acp = json!({"m2m:acp": {"rn": "acp", "pv": rule(&[HUB], 63), "pvs": rule(&[HUB], 63)}});
    assert_eq!(bench.create(Some(HUB), "/cse/hub", 1, acp).code, 2001);
}

/// Ends the hub's registration in one of several ways.
pub(super) fn leave(bench: &mut Bench, how: &str) {
    match how {
        "it leaves" => assert_eq!(bench.delete(HUB, "/cse/hub").code, 2002),
        _ => {
            let far = json!({"m2m:ae": {"et": crate::record::timestamp(bench.now() + 5)}});
            assert_eq!(bench.update(HUB, "/cse/hub", far).code, 2004);
            bench.pass(10);
        }
    }
}

pub(super) const WAYS: [&str; 2] = ["it leaves", "it expires"];

pub(super) fn retrieve(bench: &Bench, path: &str) -> u16 {
    bench.retrieve(HUB, path).code
}

#[test]
fn deleted_policy_cannot_be_replaced_by_name() {
    for how in WAYS {
        let mut bench = Bench::with_lights();
        hub(&bench, "one");
        hubs_policy(&bench);
        let named = json!({"m2m:cnt": {"acpi": ["cse/hub/acp"]}});
        assert_eq!(bench.update(LIGHT1, STATE, named.clone()).code, 2004);
        assert_eq!(retrieve(&bench, STATE), 2000);
        leave(&mut bench, how);
        for credential in ["two", "one"] {
            hub(&bench, credential);
            hubs_policy(&bench);
            assert_eq!(retrieve(&bench, STATE), 4103, "{how} {credential}");
            assert_eq!(bench.instance(HUB, STATE, json!({"con": 1})).code, 4103);
            let free = json!({"m2m:cnt": {"acpi": null}});
            assert_eq!(bench.update(HUB, STATE, free).code, 4103);
            // The AE sees the attribute that it wrote, which does not silently denote another
            // policy.
            let shown = bench.retrieve(LIGHT1, STATE);
            assert_eq!(shown.attributes()["acpi"], json!(["cse/hub/acp"]));
            let again = bench.update(LIGHT1, STATE, named.clone());
            assert_eq!(again.code, 4000, "{}", again.why());
            assert!(again.why().contains("remove it from acpi"), "{}", again.why());
            assert_eq!(bench.delete(HUB, "/cse/hub").code, 2002);
        }
        hub(&bench, "two");
        hubs_policy(&bench);
        assert_eq!(bench.update(LIGHT1, STATE, json!({"m2m:cnt": {"acpi": null}})).code, 2004);
        assert_eq!(bench.update(LIGHT1, STATE, named).code, 2004);
        assert_eq!(retrieve(&bench, STATE), 2000);
    }
}

/// A policy that was missing when it was named must be named again.
#[test]
fn missing_policy_is_not_bound_later() {
    let bench = Bench::with_lights();
    hub(&bench, "one");
    let named = json!({"m2m:cnt": {"acpi": ["cse/hub/acp"]}});
    assert_eq!(bench.update(LIGHT1, STATE, named.clone()).code, 2004);
    hubs_policy(&bench);
    assert_eq!(retrieve(&bench, STATE), 4103);
    assert_eq!(bench.update(LIGHT1, STATE, named).code, 2004);
    assert_eq!(retrieve(&bench, STATE), 2000);
}

/// Creates light 1's policy for the hub, and applies it.
pub(super) fn lights_policy(bench: &Bench, acor: &[&str]) {
    let acp = json!({"rn": "acp", "pv": rule(acor, 63), "pvs": rule(&[LIGHT1], 63)});
    let acp = json!({ "m2m:acp": acp });
    assert_eq!(bench.create(Some(LIGHT1), "/cse/light1", 1, acp).code, 2001);
    let named = json!({"m2m:cnt": {"acpi": ["cse/light1/acp"]}});
    assert_eq!(bench.update(LIGHT1, STATE, named).code, 2004);
}

#[test]
fn ae_id_in_rule_is_bound_to_registrant() {
    for form in [HUB, "/mn-cse-123456/Chub", "//in.provider.com/mn-cse-123456/Chub"] {
        for how in WAYS {
            let mut bench = Bench::with_lights();
            hub(&bench, "one");
            lights_policy(&bench, &[form]);
            assert_eq!(retrieve(&bench, STATE), 2000, "{form}");
            leave(&mut bench, how);
            assert_eq!(retrieve(&bench, STATE), 4103);
            hub(&bench, "two");
            assert_eq!(retrieve(&bench, STATE), 4103, "{form} {how}");
            assert_eq!(bench.delete(HUB, STATE).code, 4103);
            let bench = bench.reopen();
            assert_eq!(retrieve(&bench, STATE), 4103, "{form} {how}");
            // Named again together with others, it does not silently denote another AE.
            let more = |acor: &[&str]| {
                let change = json!({"m2m:acp": {"pv": rule(acor, 63)}});
                bench.update(LIGHT1, "/cse/light1/acp", change)
            };
            let refused = more(&[LIGHT2, form]);
            assert_eq!(refused.code, 4000, "{}", refused.why());
            assert_eq!(bench.delete(HUB, "/cse/hub").code, 2002);
            assert_eq!(more(&[LIGHT2, form]).code, 2004);
            // The same AE returns.
            hub(&bench, "one");
            assert_eq!(retrieve(&bench, STATE), 2000, "{form} {how}");
            bench.cse().store().assert_consistent();
        }
    }
}

#[test]
fn pattern_in_rule_is_not_bound() {
    for form in ["C*", "/mn-cse-123456/Chu*", "all", "in.provider.com"] {
        let bench = Bench::with_lights();
        hub(&bench, "one");
        lights_policy(&bench, &[form]);
        assert_eq!(bench.delete(HUB, "/cse/hub").code, 2002);
        hub(&bench, "two");
        assert_eq!(retrieve(&bench, STATE), 2000, "{form}");
    }
}

#[test]
fn unregistered_ae_id_is_bound_to_first_registrant() {
    let bench = Bench::with_lights();
    lights_policy(&bench, &[HUB, "Cother"]);
    assert_eq!(retrieve(&bench, STATE), 4103);
    // Also after a restart.
    let bench = bench.reopen();
    hub(&bench, "one");
    assert_eq!(retrieve(&bench, STATE), 2000);
    assert_eq!(bench.delete(HUB, "/cse/hub").code, 2002);
    hub(&bench, "two");
    assert_eq!(retrieve(&bench, STATE), 4103);
    bench.cse().store().assert_consistent();
    // A wait ends with its policy.
    assert_eq!(bench.delete(LIGHT1, "/cse/light1/acp").code, 2002);
    assert_eq!(register(&bench, "Cother", "other", "three").code, 2001);
    bench.cse().store().assert_consistent();
}

/// Creates a policy of light 1 for the hub, whose policy with this name does not exist yet.
pub(super) fn policy_for_hub(bench: &Bench, name: &str) {
    let more: Vec<_> = (0..60).map(|n| format!("Cnobody-{n}-{}", "x".repeat(80))).collect();
    let acor: Vec<_> = more.iter().map(String::as_str).chain([HUB]).collect();
    let acp = json!({"rn": name, "pv": rule(&acor, 63), "pvs": rule(&[LIGHT1], 63)});
    let made = bench.create(Some(LIGHT1), "/cse/light1", 1, json!({ "m2m:acp": acp }));
    assert_eq!(made.code, 2001, "{}", made.why());
    let cnt = json!({"rn": format!("for-{name}"), "acpi": [format!("cse/light1/{name}")]});
    assert_eq!(bench.container(LIGHT1, "/cse/light1", cnt).code, 2001);
}

#[test]
fn registration_cost_is_independent_of_waiting_rules() {
    let steps = |waiting: usize| {
        let bench = Bench::with_lights();
        for n in 0..waiting {
            policy_for_hub(&bench, &format!("p{n}"));
        }
        let ae = json!({"m2m:ae": {"rn": "hub", "api": "Nhub", "rr": false}});
        let mut create = request(Operation::Create, "/cse", Some(HUB), Some(ae));
        create.resource_type = Some(2);
        let budget = bench.budget();
        let handled = bench.cse().handle(&create, &budget, bench.time());
        assert_eq!(agree(&bench, handled).code, 2001);
        for n in 0..waiting {
            assert_eq!(retrieve(&bench, &format!("/cse/light1/for-p{n}")), 2000);
        }
        bench.cse().store().assert_consistent();
        budget.left()
    };
    assert_eq!(steps(1), steps(60));
}

/// Each wait ends separately: a name that is stored after the first holder has left waits for the
/// next.
#[test]
fn waits_for_one_ae_id_are_told_apart() {
    let bench = Bench::with_lights();
    let sees = |bench: &Bench| {
        ["p0", "p1", "p2"].map(|p| retrieve(bench, &format!("/cse/light1/for-{p}")))
    };
    policy_for_hub(&bench, "p0");
    hub(&bench, "one");
    assert_eq!(bench.delete(HUB, "/cse/hub").code, 2002);
    policy_for_hub(&bench, "p1");
    hub(&bench, "two");
    assert_eq!(sees(&bench), [4103, 2000, 4004]);
    assert_eq!(bench.delete(HUB, "/cse/hub").code, 2002);
    policy_for_hub(&bench, "p2");
    let bench = bench.reopen();
    hub(&bench, "one");
    assert_eq!(sees(&bench), [2000, 4103, 2000]);
    bench.cse().store().assert_consistent();
    // Stored again, it still denotes the first registrant.
    let again = json!({"m2m:acp": {"pv": rule(&[LIGHT2, HUB], 63)}});
    assert_eq!(bench.update(LIGHT1, "/cse/light1/p0", again.clone()).code, 2004);
    let another = bench.update(LIGHT1, "/cse/light1/p1", again);
    assert_eq!(another.code, 4000, "{}", another.why());
    assert_eq!(sees(&bench), [2000, 4103, 2000]);
    // The last waiting resource removes the result, and the first wait can start again.
    for policy in ["p0", "p1", "p2"] {
        assert_eq!(bench.delete(LIGHT1, &format!("/cse/light1/{policy}")).code, 2002);
    }
    bench.cse().store().assert_consistent();
    assert_eq!(bench.delete(HUB, "/cse/hub").code, 2002);
    for made in ["for-p0", "for-p1", "for-p2"] {
        assert_eq!(bench.delete(LIGHT1, &format!("/cse/light1/{made}")).code, 2002);
    }
    policy_for_hub(&bench, "p0");
    hub(&bench, "two");
    assert_eq!(sees(&bench), [2000, 4004, 4004]);
    bench.cse().store().assert_consistent();
}

#[test]
fn custodian_may_register_later() {
    let bench = Bench::with_lights();
    let kept = json!({"rn": "kept", "cstn": HUB});
    assert_eq!(bench.container(LIGHT1, "/cse/light1", kept).code, 2001);
    assert_eq!(retrieve(&bench, "/cse/light1/kept"), 4103);
    hub(&bench, "one");
    assert_eq!(retrieve(&bench, "/cse/light1/kept"), 2000);
    assert_eq!(bench.delete(HUB, "/cse/hub").code, 2002);
    hub(&bench, "two");
    assert_eq!(retrieve(&bench, "/cse/light1/kept"), 4103);
}

/// An S-type AE-ID has the form of a CSE-ID.
#[test]
fn s_type_ae_id_in_rule_is_bound() {
    let bench = Bench::with_lights();
    assert_eq!(register(&bench, "Shub", "hub", "one").code, 2001);
    lights_policy(&bench, &["/Shub"]);
    assert_eq!(bench.retrieve("Shub", STATE).code, 2000);
    assert_eq!(bench.delete("Shub", "/cse/hub").code, 2002);
    // Neither an AE that registers it here nor one of another CSE.
    assert_eq!(bench.retrieve("/Shub", STATE).code, 4103);
    assert_eq!(register(&bench, "Shub", "hub", "two").code, 2001);
    assert_eq!(bench.retrieve("Shub", STATE).code, 4103);
}

#[test]
fn custodian_and_creator_are_bound() {
    for how in WAYS {
        let mut bench = Bench::with_lights();
        hub(&bench, "one");
        lights_policy(&bench, &[HUB]);
        let made = json!({"rn": "made", "cr": null});
        assert_eq!(bench.container(HUB, STATE, made).code, 2001);
        let kept = json!({"rn": "kept", "cstn": HUB});
        assert_eq!(bench.container(LIGHT1, "/cse/light1", kept).code, 2001);
        let free = json!({"m2m:cnt": {"acpi": null}});
        assert_eq!(bench.update(LIGHT1, STATE, free).code, 2004);
        let both = ["/cse/light1/state/made", "/cse/light1/kept"];
        assert_eq!(both.map(|path| retrieve(&bench, path)), [2000; 2]);
        leave(&mut bench, how);
        hub(&bench, "two");
        for path in both {
            assert_eq!(retrieve(&bench, path), 4103, "{how} {path}");
            assert_eq!(bench.instance(HUB, path, json!({"con": 1})).code, 4103);
            assert_eq!(bench.delete(HUB, path).code, 4103);
            let take = json!({"m2m:cnt": {"cstn": null}});
            assert_eq!(bench.update(HUB, path, take).code, 4103);
        }
        assert_eq!(bench.delete(HUB, "/cse/hub").code, 2002);
        hub(&bench, "one");
        assert_eq!(both.map(|path| retrieve(&bench, path)), [2000; 2]);
    }
}

/// The policies of the CSEBase are resolved by name, but only from trusted owners.
#[test]
fn csebase_ignores_policies_of_aes() {
    let settings = Settings {
        administrators: vec!["Cadmin".parse().unwrap()],
        csebase_policies: vec!["cse/hub/acp".into(), "cse/admin/acp".into()],
        ..settings()
    };
    let bench = Bench::lights(settings);
    hub(&bench, "two");
    hubs_policy(&bench);
    assert_eq!(bench.container(HUB, "/cse", json!({})).code, 4103);
    assert_eq!(bench.register("Cadmin", "admin").code, 2001);
    let acp = json!({"rn": "acp", "pv": rule(&[HUB], 63), "pvs": rule(&["Cadmin"], 63)});
    assert_eq!(bench.create(Some("Cadmin"), "/cse/admin", 1, json!({ "m2m:acp": acp })).code, 2001);
    assert_eq!(bench.container(HUB, "/cse", json!({})).code, 2001);
}

/// If policy assigns a learned AE-ID to another credential, that is another AE.
#[test]
fn reassigned_ae_id_has_no_former_access() {
    let bench = Bench::with_lights();
    let ask = |credential: &str, learns_ae_id, operation, path, content: Option<Value>| {
        let mut request = request(operation, path, Some(HUB), content);
        if operation == Operation::Create {
            request.resource_type = Some(if path == "/cse" { 2 } else { 3 });
        }
        let id = CredentialId::parse(&format!("12-{credential}@in.provider.com")).unwrap();
        request.credential = Some(AssociationCredential { id, learns_ae_id });
        bench.send(&request).code
    };
    let ae = || Some(json!({"m2m:ae": {"rn": "hub", "api": "Nhub", "rr": false}}));
    let container = || Some(json!({"m2m:cnt": {"rn": "own"}}));
    assert_eq!(ask("one", true, Operation::Create, "/cse", ae()), 2001);
    assert_eq!(ask("one", true, Operation::Create, "/cse/hub", container()), 2001);
    let own =
        |credential, learns| ask(credential, learns, Operation::Retrieve, "/cse/hub/own", None);
    assert_eq!(own("one", true), 2000);
    // The AE's own credential may be assigned its learned AE-ID.
    assert_eq!(own("one", false), 2000);
    assert_eq!(own("two", false), 4103);
    // A credential that registers for a new AE-ID takes over nothing.
    assert_eq!(ask("three", true, Operation::Create, "/cse", ae()), 4117);
    assert_eq!(ask("two", false, Operation::Create, "/cse", ae()), 2001);
    assert_eq!(own("two", false), 4004);
    // A credential that policy named may be followed by another.
    assert_eq!(ask("two", false, Operation::Create, "/cse/hub", container()), 2001);
    assert_eq!(own("four", false), 2000);
    bench.cse().store().assert_consistent();
}
