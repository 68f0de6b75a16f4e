use serde_json::{Value, json};

use crate::settings::Settings;
use crate::testing::{Bench, LIGHT1, LIGHT2, Reply, settings};

pub(super) const STATE: &str = "/cse/light1/state";
const CSE: &str = "/in-cse";

pub(super) fn rule(who: &[&str], operations: u8) -> Value {
    json!({"acr": [{"acor": who, "acop": operations}]})
}

/// Creates a policy below light 1 that light 1 may change.
pub(super) fn policy(bench: &Bench, name: &str, privileges: Value) -> Reply {
    let acp = json!({"rn": name, "pv": privileges, "pvs": rule(&[LIGHT1], 63)});
    bench.create(Some(LIGHT1), "/cse/light1", 1, json!({ "m2m:acp": acp }))
}

pub(super) fn govern(bench: &Bench, who: &str, path: &str, policies: &[&str]) -> u16 {
    let root = if path == "/cse/light1" { "m2m:ae" } else { "m2m:cnt" };
    // An empty list is omitted.
    let policies = if policies.is_empty() { Value::Null } else { json!(policies) };
    bench.update(who, path, json!({ root: { "acpi": policies } })).code
}

/// Returns a CSE on which the policy `open` applies to the state of light 1.
fn opened(privileges: Value) -> Bench {
    let bench = Bench::with_lights();
    let reply = policy(&bench, "open", privileges);
    assert_eq!(reply.code, 2001, "{}", reply.why());
    assert_eq!(govern(&bench, LIGHT1, STATE, &["cse/light1/open"]), 2004);
    bench
}

/// Returns the results of create, retrieve, update, discover and delete by `who` on the state of
/// light 1.
fn attempts(bench: &Bench, who: &str) -> [u16; 5] {
    [
        bench.instance(who, STATE, json!({"con": 1})).code,
        bench.retrieve(who, STATE).code,
        bench.update(who, STATE, json!({"m2m:cnt": {"lbl": ["x"]}})).code,
        bench.retrieve(who, &format!("{STATE}?fu=1")).code,
        bench.delete(who, STATE).code,
    ]
}

#[test]
fn policy_grants_access_to_named_originators() {
    let bench = opened(rule(&[LIGHT1, LIGHT2], 63 - 8));
    assert_eq!(attempts(&bench, LIGHT2), [2001, 2000, 2004, 2000, 4103]);
    for other in [CSE, "/in-cse/Capp", "Cnobody", "/mn-cse-123456/Clight-AE2"] {
        assert_eq!(attempts(&bench, other), [4103; 5], "{other}");
    }
    for (operation, expected) in [
        (1, [2001, 4103, 4103, 4103, 4103]),
        (2, [4103, 2000, 4103, 4103, 4103]),
        (4, [4103, 4103, 2004, 4103, 4103]),
        (32, [4103, 4103, 4103, 2000, 4103]),
        (8, [4103, 4103, 4103, 4103, 2002]),
        (16, [4103; 5]),
        (0, [4103; 5]),
    ] {
        let bench = opened(rule(&[LIGHT2], operation));
        assert_eq!(attempts(&bench, LIGHT2), expected, "{operation}");
    }
}

#[test]
fn policy_applies_to_owner() {
    let bench = opened(rule(&[LIGHT2], 63));
    assert_eq!(attempts(&bench, LIGHT1), [4103; 5]);
    // It can change the policy, and thereby its own privileges.
    let change = json!({"m2m:acp": {"pv": rule(&[LIGHT1, LIGHT2], 3)}});
    assert_eq!(bench.update(LIGHT1, "/cse/light1/open", change).code, 2004);
    assert_eq!(bench.retrieve(LIGHT1, STATE).code, 2000);
    // Or the resources to which it applies.
    assert_eq!(govern(&bench, LIGHT1, STATE, &[]), 2004);
    assert_eq!(attempts(&bench, LIGHT2), [4103; 5]);
    assert_eq!(attempts(&bench, LIGHT1), [2001, 2000, 2004, 2000, 2002]);
    bench.cse().store().assert_consistent();
}

#[test]
fn originators_are_named_in_every_form() {
    for (who, name) in [
        (LIGHT2, "all"),
        (LIGHT2, "/mn-cse-123456/Clight-AE2"),
        (LIGHT2, "//in.provider.com/mn-cse-123456/Clight-AE2"),
        (LIGHT2, "C*-AE2"),
        (LIGHT2, "in.provider.com"),
        (CSE, "/in-cse"),
        ("//in.provider.com/in-cse", "/in-*"),
        (CSE, "all"),
        ("/in-cse/Capp", "/in-cse/C*"),
        ("//other.com/in-cse", "//other.com/*"),
    ] {
        let bench = opened(rule(&[name], 2));
        assert_eq!(bench.retrieve(who, STATE).code, 2000, "{who} {name}");
    }
    for (who, name) in [
        (LIGHT2, "Clight-AE1"),
        (LIGHT2, "/in-cse/Clight-AE2"),
        (LIGHT2, "provider.com"),
        (CSE, "/mn-*"),
        (CSE, "/in-cse/C*"),
        ("//other.com/in-cse", "/in-cse"),
        ("//other.com/in-cse", "in.provider.com"),
        ("/in-cse/Capp", "/in-cse"),
        ("/in-cse/Clight-AE2", LIGHT2),
        // These forms are reserved for this CSE.
        ("Cnobody", "all"),
        ("Cnobody", "Cnobody"),
        ("/mn-cse-123456/Clight-AE2", LIGHT2),
        ("/mn-cse-123456/Clight-AE2", "all"),
        ("/mn-cse-123456", "all"),
    ] {
        let bench = opened(rule(&[name], 63));
        assert_eq!(bench.retrieve(who, STATE).code, 4103, "{who} {name}");
    }
}

#[test]
fn instance_inherits_policy_of_container() {
    let bench = opened(rule(&[LIGHT2], 2 + 1));
    let reply = bench.instance(LIGHT2, STATE, json!({"rn": "one", "con": 1, "cr": null}));
    assert_eq!(reply.attributes()["cr"], LIGHT2);
    for path in ["/cse/light1/state/one", "/cse/light1/state/la", "/cse/light1/state/ol"] {
        assert_eq!(bench.retrieve(LIGHT2, path).code, 2000, "{path}");
        assert_eq!(bench.retrieve(LIGHT1, path).code, 4103, "{path}");
        // The creator does not matter.
        assert_eq!(bench.delete(LIGHT2, path).code, 4103, "{path}");
    }
    assert_eq!(govern(&bench, LIGHT1, STATE, &[]), 2004);
    assert_eq!(bench.retrieve(LIGHT2, "/cse/light1/state/one").code, 4103);
    assert_eq!(bench.delete(LIGHT1, "/cse/light1/state/la").code, 2002);
}

#[test]
fn resource_without_policy_inherits_parent() {
    let bench = Bench::with_lights();
    assert_eq!(bench.container(LIGHT1, STATE, json!({"rn": "deep"})).code, 2001);
    assert_eq!(policy(&bench, "open", rule(&[LIGHT1, LIGHT2], 63)).code, 2001);
    assert_eq!(policy(&bench, "closed", rule(&[LIGHT1], 63)).code, 2001);
    let deep = "/cse/light1/state/deep";
    let seen = |path| bench.retrieve(LIGHT2, path).code == 2000;
    assert_eq!(govern(&bench, LIGHT1, "/cse/light1", &["cse/light1/open"]), 2004);
    assert!(seen("/cse/light1") && seen(STATE) && seen(deep));
    // A policy controls access to itself.
    assert!(!seen("/cse/light1/open"));
    assert_eq!(govern(&bench, LIGHT1, STATE, &["cse/light1/closed"]), 2004);
    assert!(seen("/cse/light1") && !seen(STATE) && !seen(deep));
    assert_eq!(govern(&bench, LIGHT1, deep, &["cse/light1/closed", "cse/light1/open"]), 2004);
    assert!(!seen(STATE) && seen(deep));
    assert_eq!(govern(&bench, LIGHT1, "/cse/light1", &[]), 2004);
    assert!(!seen("/cse/light1") && !seen(STATE) && seen(deep));
}

#[test]
fn missing_policy_grants_nothing() {
    let bench = Bench::with_lights();
    assert_eq!(policy(&bench, "open", rule(&["all"], 63)).code, 2001);
    assert_eq!(govern(&bench, LIGHT1, "/cse/light1", &["cse/light1/open"]), 2004);
    for nowhere in [
        "cse/light1/gone",
        "cse/light1/state",
        "/in-cse/cse/open",
        "//other.com/mn-cse-123456/cse/light1/open",
        "cse/light1/state/la",
    ] {
        assert_eq!(govern(&bench, LIGHT1, STATE, &[nowhere]), 2004, "{nowhere}");
        // The rule of its parent does not apply instead.
        assert_eq!(bench.retrieve(LIGHT2, STATE).code, 4103, "{nowhere}");
        assert_eq!(bench.retrieve(LIGHT1, STATE).code, 2000, "{nowhere}");
    }
    // Beside an existing policy it is ignored.
    assert_eq!(govern(&bench, LIGHT1, STATE, &["cse/nowhere", "cse/light1/open"]), 2004);
    assert_eq!(bench.retrieve(LIGHT2, STATE).code, 2000);
    assert_eq!(bench.delete(LIGHT1, "/cse/light1/open").code, 2002);
    assert_eq!(bench.retrieve(LIGHT2, STATE).code, 4103);
    assert_eq!(bench.retrieve(LIGHT1, STATE).code, 2000);
}

#[test]
fn expired_policy_grants_nothing() {
    let mut bench = Bench::with_lights();
    let acp = json!({"rn": "open", "et": "20261124T093010",
        "pv": rule(&[LIGHT2], 63), "pvs": rule(&[LIGHT1], 63)});
    let reply = bench.create(Some(LIGHT1), "/cse/light1", 1, json!({ "m2m:acp": acp }));
    assert_eq!(reply.code, 2001);
    let address = format!("/mn-cse-123456/{}", reply.attributes()["ri"].as_str().unwrap());
    assert_eq!(govern(&bench, LIGHT1, STATE, &[&address]), 2004);
    let codes = |bench: &Bench| [LIGHT1, LIGHT2].map(|who| bench.retrieve(who, STATE).code);
    assert_eq!(codes(&bench), [4103, 2000]);
    bench.pass(10);
    assert_eq!(codes(&bench), [2000, 4103]);
}

#[test]
fn policy_is_governed_by_self_privileges() {
    let bench = Bench::with_lights();
    let acp = json!({"rn": "acp", "pv": rule(&["all"], 63),
        "pvs": {"acr": [{"acor": [LIGHT2], "acop": 2 + 4}, {"acor": [LIGHT1], "acop": 32}]}});
    let reply = bench.create(Some(LIGHT1), "/cse/light1", 1, json!({ "m2m:acp": acp }));
    assert_eq!((reply.code, &reply.attributes()["ty"]), (2001, &json!(1)));
    let path = "/cse/light1/acp";
    assert_eq!(bench.retrieve(LIGHT1, path).code, 4103);
    assert_eq!(bench.retrieve(LIGHT1, "/cse/light1?fu=1&ty=1").found(), ["cse/light1/acp"]);
    assert_eq!(bench.retrieve(LIGHT2, path).attributes()["pvs"]["acr"][0]["acop"], 6);
    assert_eq!(bench.delete(LIGHT1, path).code, 4103);
    assert_eq!(bench.delete(LIGHT2, path).code, 4103);
    let update = |who, attributes| bench.update(who, path, json!({ "m2m:acp": attributes })).code;
    assert_eq!(update(LIGHT1, json!({"lbl": ["x"]})), 4103);
    assert_eq!(update(LIGHT2, json!({"lbl": ["x"]})), 2004);
    for bad in [
        json!({"pvs": {"acr": []}}),
        json!({"pvs": null}),
        json!({"pv": null}),
        json!({"pv": {"acr": [{"acor": ["nobody"], "acop": 1}]}}),
        json!({"acpi": []}),
    ] {
        assert_eq!(update(LIGHT2, bad.clone()), 4000, "{bad}");
    }
    // It is deleted with its AE.
    assert_eq!(bench.delete(LIGHT1, "/cse/light1").code, 2002);
    assert_eq!(bench.retrieve(LIGHT2, path).code, 4004);
    bench.cse().store().assert_consistent();
}

#[test]
fn policy_use_requires_update_privilege() {
    let bench = Bench::with_lights();
    let acp = json!({"rn": "theirs", "pv": rule(&[LIGHT1], 63), "pvs": rule(&[LIGHT2], 4)});
    let acp = json!({ "m2m:acp": acp });
    assert_eq!(bench.create(Some(LIGHT1), "/cse/light1", 1, acp).code, 2001);
    assert_eq!(policy(&bench, "mine", rule(&[LIGHT2], 63)).code, 2001);
    // The privilege to update does not include changing privileges.
    assert_eq!(govern(&bench, LIGHT1, STATE, &["cse/light1/mine"]), 2004);
    assert_eq!(govern(&bench, LIGHT2, STATE, &[]), 4103);
    assert_eq!(bench.update(LIGHT2, STATE, json!({"m2m:cnt": {"cstn": LIGHT2}})).code, 4103);
    assert_eq!(bench.update(LIGHT2, STATE, json!({"m2m:cnt": {"acpi": null}})).code, 4103);
    assert_eq!(govern(&bench, LIGHT1, STATE, &["cse/light1/theirs"]), 2004);
    // Nor do the AE's rights apply beside the policies.
    assert_eq!(govern(&bench, LIGHT1, STATE, &[]), 4103);
    // A resource that inherits has the same rule.
    assert_eq!(bench.container(LIGHT1, STATE, json!({"rn": "deep"})).code, 2001);
    assert_eq!(govern(&bench, LIGHT1, "/cse/light1/state/deep", &["cse/light1/mine"]), 4103);
    assert_eq!(govern(&bench, LIGHT2, STATE, &[]), 2004);
    assert_eq!(govern(&bench, LIGHT1, STATE, &["cse/light1/mine"]), 2004);
}

#[test]
fn privileges_are_changed_alone() {
    let bench = Bench::with_lights();
    for attributes in [
        json!({"acpi": ["cse/a"], "lbl": ["x"]}),
        json!({"acpi": null, "lbl": ["x"]}),
        json!({"cstn": LIGHT1, "lbl": ["x"]}),
        json!({"acpi": ["cse/a"], "cstn": LIGHT1}),
        json!({"acpi": "cse/a"}),
        json!({"acpi": []}),
        json!({"acpi": ["cse//a"]}),
        json!({"acpi": ["/"]}),
        json!({"acpi": [1]}),
        json!({"acpi": vec!["cse/a"; 17]}),
        json!({"cstn": "light"}),
        json!({"cstn": "C"}),
        json!({"cstn": "all"}),
    ] {
        let reply = bench.update(LIGHT1, STATE, json!({ "m2m:cnt": attributes }));
        assert_eq!(reply.code, 4000, "{attributes}");
    }
    assert_eq!(bench.retrieve(LIGHT1, STATE).attributes().get("acpi"), None);
    // A new resource has no privileges yet, and may be given any.
    let given = json!({"rn": "new", "acpi": ["cse/a"], "lbl": ["x"], "cstn": LIGHT2});
    assert_eq!(bench.container(LIGHT1, "/cse/light1", given).code, 2001);
}

#[test]
fn custodian_replaces_owner() {
    let bench = Bench::with_lights();
    let hand = |who, to: Value| bench.update(who, STATE, json!({ "m2m:cnt": { "cstn": to } })).code;
    assert_eq!(bench.container(LIGHT1, STATE, json!({"rn": "deep"})).code, 2001);
    let deep = "/cse/light1/state/deep";
    assert_eq!(hand(LIGHT2, json!(LIGHT2)), 4103);
    assert_eq!(hand(LIGHT1, json!("/mn-cse-123456/Clight-AE2")), 2004);
    for path in [STATE, deep] {
        assert_eq!(bench.retrieve(LIGHT2, path).code, 2000, "{path}");
        for other in [LIGHT1, CSE, "Cnobody", "/mn-cse-123456/Clight-AE2"] {
            assert_eq!(bench.retrieve(other, path).code, 4103, "{path} {other}");
        }
    }
    assert_eq!(bench.instance(LIGHT2, deep, json!({"con": 1})).code, 2001);
    assert_eq!(bench.retrieve(LIGHT1, "/cse/light1/state/deep/la").code, 4103);
    assert_eq!(bench.retrieve(LIGHT2, "/cse/light1").code, 4103);
    assert_eq!(hand(LIGHT1, json!(null)), 4103);
    assert_eq!(hand(LIGHT2, json!("//in.provider.com/in-cse")), 2004);
    assert_eq!(bench.retrieve(CSE, STATE).code, 2000);
    assert_eq!(bench.retrieve(LIGHT2, STATE).code, 4103);
    assert_eq!(hand(CSE, json!(null)), 2004);
    assert_eq!(bench.retrieve(LIGHT1, STATE).code, 2000);
    // If a policy applies, it alone decides.
    assert_eq!(hand(LIGHT1, json!(LIGHT2)), 2004);
    assert_eq!(policy(&bench, "mine", rule(&[LIGHT1], 63)).code, 2001);
    assert_eq!(govern(&bench, LIGHT2, STATE, &["cse/light1/mine"]), 2004);
    assert_eq!(bench.retrieve(LIGHT2, STATE).code, 4103);
    assert_eq!(bench.retrieve(LIGHT1, STATE).code, 2000);
}

#[test]
fn creator_has_access_in_foreign_subtree() {
    let bench = opened(rule(&[LIGHT2], 1));
    let mine = json!({"rn": "mine", "cr": null});
    assert_eq!(bench.container(LIGHT2, STATE, mine).code, 2001);
    assert_eq!(bench.container(LIGHT2, STATE, json!({"rn": "unsigned"})).code, 2001);
    let (mine, unsigned) = ("/cse/light1/state/mine", "/cse/light1/state/unsigned");
    // As long as the policy applies, it alone decides.
    assert_eq!(bench.retrieve(LIGHT2, mine).code, 4103);
    assert_eq!(govern(&bench, LIGHT1, STATE, &[]), 2004);
    assert_eq!([LIGHT1, LIGHT2].map(|w| bench.retrieve(w, mine).code), [2000, 2000]);
    assert_eq!([LIGHT1, LIGHT2].map(|w| bench.retrieve(w, unsigned).code), [2000, 4103]);
    assert_eq!(bench.retrieve(CSE, mine).code, 4103);
    assert_eq!(bench.delete(LIGHT2, mine).code, 2002);
}

#[test]
fn rule_may_limit_created_types() {
    let details =
        |detail: Value| opened(json!({"acr": [{"acor": [LIGHT2], "acop": 3, "acod": [detail]}]}));
    let bench = details(json!({"chty": [4]}));
    assert_eq!(bench.instance(LIGHT2, STATE, json!({"con": 1})).code, 2001);
    assert_eq!(bench.container(LIGHT2, STATE, json!({})).code, 4103);
    assert_eq!(bench.retrieve(LIGHT2, STATE).code, 2000);
    // The instance inherits from its container, whose type differs.
    let bench = details(json!({"ty": 3, "chty": [3]}));
    assert_eq!(bench.container(LIGHT2, STATE, json!({"rn": "deep"})).code, 2001);
    assert_eq!(bench.instance(LIGHT2, STATE, json!({"con": 1})).code, 4103);
    assert_eq!(bench.retrieve(LIGHT2, STATE).code, 2000);
    let bench = details(json!({"ty": 2, "chty": [3]}));
    assert_eq!(bench.container(LIGHT2, STATE, json!({})).code, 4103);
    assert_eq!(bench.retrieve(LIGHT2, STATE).code, 4103);
}

#[test]
fn unsupported_rule_is_refused() {
    let bench = Bench::with_lights();
    for extra in [
        json!({"acco": [{"aclr": {"accc": ["DE"]}}]}),
        json!({"acod": [{"chty": [4], "spty": "x"}]}),
    ] {
        let mut privileges = rule(&["all"], 63);
        privileges["acr"][0].as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let reply = policy(&bench, "new", privileges);
        assert_eq!((reply.code, reply.why().contains("not supported")), (5001, true), "{extra}");
    }
    for wrong in [
        json!({"acr": [{"acor": ["1234@ROLE.org"], "acop": 1}]}),
        json!({"acr": [{"acor": ["cse/group"], "acop": 1}]}),
        json!({"acr": [{"acor": ["everybody"], "acop": 1}]}),
        json!({"acr": [{"acor": ["all"], "acop": 1, "aca": []}]}),
        json!({"acr": [{"acor": ["all"], "acop": 64}]}),
        json!({"acr": [{"acor": ["all"]}]}),
        json!([]),
        json!(null),
    ] {
        assert_eq!(policy(&bench, "new", wrong.clone()).code, 4000, "{wrong}");
    }
    for acp in [
        json!({"pv": rule(&["all"], 63)}),
        json!({"pvs": rule(&["all"], 63)}),
        json!({"pv": {}, "pvs": {}}),
        json!({"pv": {}, "pvs": rule(&["all"], 63), "acpi": ["cse/x"]}),
    ] {
        let reply = bench.create(Some(LIGHT1), "/cse/light1", 1, json!({ "m2m:acp": acp }));
        assert_eq!(reply.code, 4000, "{acp}");
    }
    let acp = json!({"m2m:acp": {"pv": {}, "pvs": rule(&["all"], 63)}});
    assert_eq!(bench.create(Some(LIGHT1), "/cse", 1, acp.clone()).code, 4103);
    assert_eq!(bench.create(Some(LIGHT2), "/cse/light1", 1, acp.clone()).code, 4103);
    assert_eq!(bench.create(Some(LIGHT1), STATE, 1, acp.clone()).code, 4108);
    assert_eq!(bench.create(Some(LIGHT1), "/cse/light1", 1, acp).code, 2001);
}

#[test]
fn csebase_uses_configured_policies() {
    let admin = "Cadmin";
    let settings = Settings {
        administrators: vec![admin.parse().unwrap()],
        csebase_policies: vec!["cse/visitors".into()],
        ..settings()
    };
    let bench = Bench::lights(settings.clone());
    assert_eq!(bench.register(admin, "admin").code, 2001);
    // The policy does not exist yet.
    assert_eq!([LIGHT1, CSE].map(|w| bench.retrieve(w, "/cse").code), [2000, 2000]);
    assert_eq!(bench.retrieve(LIGHT1, "/cse").attributes()["acpi"], json!(["cse/visitors"]));
    let acp = json!({"rn": "visitors", "pv": rule(&["/in-cse/C*", LIGHT2], 2 + 32 + 1),
        "pvs": rule(&[LIGHT2], 2)});
    let acp = json!({ "m2m:acp": acp });
    assert_eq!(bench.create(Some(admin), "/cse", 1, acp).code, 2001);
    for (who, code) in [("/in-cse/Capp", 2000), (LIGHT2, 2000), (LIGHT1, 4103), (CSE, 4103)] {
        assert_eq!(bench.retrieve(who, "/cse").code, code, "{who}");
    }
    assert_eq!(bench.retrieve(LIGHT2, "/cse/visitors").code, 2000);
    // A policy that opens the CSEBase does not open resources below it.
    assert_eq!(bench.retrieve(LIGHT2, "/cse/light1").code, 4103);
    assert_eq!(bench.container(LIGHT2, "/cse", json!({"rn": "common"})).code, 2001);
    assert_eq!(bench.retrieve(LIGHT2, "/cse/common").code, 4103);
    // Only administrators control registrations, independently of policies.
    let mssp = json!({"m2m:mssp": {}});
    assert_eq!(bench.create(Some(LIGHT2), "/cse", 11, mssp).code, 4103);
    // Registration needs no privilege.
    assert_eq!(bench.register("Cnew", "new").code, 2001);
    // Administrators cannot lock themselves out.
    for path in ["/cse", "/cse/visitors", "/cse/common"] {
        assert_eq!(bench.retrieve(admin, path).code, 2000, "{path}");
    }
    assert_eq!(bench.delete(admin, "/cse/visitors").code, 2002);
    assert_eq!(bench.retrieve(LIGHT1, "/cse").code, 2000);
    let bench = bench.reopen();
    assert_eq!(bench.retrieve(LIGHT1, "/cse").attributes()["acpi"], json!(["cse/visitors"]));
}

#[test]
fn administrators_have_no_say_in_subtrees() {
    let admin = "Cadmin";
    let administrators = vec![admin.parse().unwrap()];
    let bench = Bench::lights(Settings { administrators, ..settings() });
    // Not before it is registered.
    assert_eq!(bench.container(admin, "/cse", json!({})).code, 4103);
    assert_eq!(bench.register(admin, "admin").code, 2001);
    assert_eq!(bench.container(admin, "/cse", json!({"rn": "mine"})).code, 2001);
    for (who, code) in [(admin, 2000), (LIGHT1, 4103), (CSE, 4103)] {
        assert_eq!(bench.retrieve(who, "/cse/mine").code, code, "{who}");
    }
    assert_eq!(attempts(&bench, admin), [4103; 5]);
    assert_eq!(bench.delete(admin, "/cse/light1").code, 4103);
    assert_eq!(bench.update(admin, "/cse", json!({"m2m:cb": {}})).code, 4005);
    assert_eq!(bench.delete(admin, "/cse").code, 4005);
    let elsewhere = ["/in-cse/Cadmin", "/mn-cse-123456/Cadmin", "/Cadmin"];
    for who in elsewhere {
        assert_eq!(bench.container(who, "/cse", json!({})).code, 4103, "{who}");
    }
}
