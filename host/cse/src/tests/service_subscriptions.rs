use serde_json::{Value, json};

use saegis_onem2m::id::CseId;

use crate::settings::Settings;
use crate::testing::{Bench, LIGHT1, Reply, settings};
use crate::{AppRule, ServiceSubscription};

const ADMIN: &str = "Cadmin";

/// An IN-CSE with an administrator.
fn bench() -> Bench {
    let administrators = vec![ADMIN.parse().unwrap()];
    let bench = Bench::lights(Settings { cse_type: 1, administrators, ..settings() });
    assert_eq!(bench.register(ADMIN, "admin").code, 2001);
    bench
}

fn make(bench: &Bench, who: &str, path: &str, ty: u16, attributes: Value) -> Reply {
    let root = match ty {
        11 => "m2m:mssp",
        14 => "m2m:nod",
        19 => "m2m:asar",
        20 => "m2m:svsn",
        _ => unreachable!(),
    };
    bench.create(Some(who), path, ty, json!({ root: attributes }))
}

fn about(bench: &Bench, cse: &str) -> ServiceSubscription {
    let now = std::time::UNIX_EPOCH + std::time::Duration::from_secs(bench.now());
    bench.cse().service_subscription(&CseId::parse(cse).unwrap(), now).unwrap()
}

fn app_rule(credentials: Option<&[&str]>, apps: Option<&[&str]>, aes: Option<&[&str]>) -> AppRule {
    let list = |texts: Option<&[&str]>| texts.map(|t| t.iter().map(|t| (*t).into()).collect());
    AppRule {
        credential_ids: list(credentials),
        app_ids: list(apps),
        ae_ids: list(aes),
        role_ids: None,
    }
}

#[test]
fn subscription_of_cse_is_returned() {
    use ServiceSubscription as S;
    let mut bench = bench();
    assert_eq!(about(&bench, "/mn-1"), S::NoProfile);
    let reply = make(&bench, ADMIN, "/cse", 11, json!({"rn": "sub", "et": "20261124T093100"}));
    assert_eq!((reply.code, &reply.attributes()["ty"]), (2001, &json!(11)));
    assert_eq!(about(&bench, "/mn-1"), S::NoNode);
    let rule = json!({"rn": "rule", "apci": ["12-*@a.b"], "aai": ["N*", "*", "Rx"], "aae": ["C*"]});
    assert_eq!(make(&bench, ADMIN, "/cse", 19, rule).code, 2001);
    let node = json!({"rn": "node", "ni": "node-1", "csi": "/mn-1", "nrq": false, "di": ["urn:x"]});
    let reply = make(&bench, ADMIN, "/cse/sub", 20, node);
    assert_eq!((reply.code, &reply.attributes()["ri"]), (2001, &json!("svsn-mn-1")));
    let link = |bench: &Bench, links: Value| {
        let change = json!({ "m2m:svsn": { "rlk": links } });
        assert_eq!(bench.update(ADMIN, "/cse/sub/node", change).code, 2004);
        about(bench, "/mn-1")
    };
    assert_eq!(about(&bench, "/mn-1"), S::Node { rules: None });
    assert_eq!(about(&bench, "mn-1"), S::Node { rules: None });
    assert_eq!(about(&bench, "/mn-2"), S::NoNode);
    assert_eq!(link(&bench, json!([])), S::Node { rules: Some(vec![]) });
    let rule = app_rule(Some(&["12-*@a.b"]), Some(&["N*", "*", "Rx"]), Some(&["C*"]));
    for address in ["cse/rule", "/mn-cse-123456/cse/rule", "//in.provider.com/mn-cse-123456/-/rule"]
    {
        let told = link(&bench, json!([address]));
        assert_eq!(told, S::Node { rules: Some(vec![rule.clone()]) }, "{address}");
    }
    // A missing resource, one of another type, and one at another CSE are not rules.
    let told = link(&bench, json!(["cse/gone", "cse/light1", "/mn-1/cse/rule"]));
    assert_eq!(told, S::Node { rules: Some(vec![]) });
    let told = link(&bench, json!(["cse/gone", "cse/rule"]));
    assert_eq!(told, S::Node { rules: Some(vec![rule]) });
    assert_eq!(link(&bench, json!(null)), S::Node { rules: None });
    let reopened = bench.reopen();
    assert_eq!(about(&reopened, "/mn-1"), S::Node { rules: None });
    bench = reopened;
    bench.pass(60);
    assert_eq!(about(&bench, "/mn-1"), S::NoProfile);
    assert_eq!(make(&bench, ADMIN, "/cse", 11, json!({"rn": "sub"})).code, 2001);
    assert_eq!(about(&bench, "/mn-1"), S::NoNode);
    assert_eq!(make(&bench, ADMIN, "/cse/sub", 20, json!({"ni": "n", "csi": "/mn-1"})).code, 2001);
    bench.cse().store().assert_consistent();
}

#[test]
fn registration_rule_follows_ts_0004() {
    let bench = bench();
    let given = json!({"rn": "asar", "aci": ["00-test@onem2m.com", "30-x", "*"], "aai": ["NAPP01"],
        "aae": ["AE-ID"]});
    assert_eq!(make(&bench, ADMIN, "/cse", 19, given).code, 4000, "AE-ID is no stem");
    let given = json!({"rn": "asar", "aci": ["00-test@onem2m.com", "30-x", "*"], "aai": ["NAPP01"],
        "aae": ["Capp"], "ari": ["1234@role.org"]});
    let reply = make(&bench, ADMIN, "/cse", 19, given);
    assert_eq!(reply.code, 2001, "{}", reply.why());
    let rule = reply.attributes();
    assert_eq!(rule["apci"], json!(["12-test@onem2m.com", "30-x", "*"]));
    assert_eq!(rule.get("aci"), None);
    let update = |attributes| bench.update(ADMIN, "/cse/asar", json!({ "m2m:asar": attributes }));
    let reply = update(json!({"aci": ["00-00-x@a.b"]}));
    assert_eq!(reply.attributes()["apci"], json!(["12-00-x@a.b"]));
    assert_eq!(update(json!({"aci": ["*"], "apci": ["*"]})).code, 4000);
    assert_eq!(update(json!({"aci": null})).attributes().get("apci"), None);
    assert_eq!(update(json!({"ari": null, "aae": null, "aai": null})).code, 2004);
}

#[test]
fn invalid_registration_rule_is_refused() {
    let bench = bench();
    assert_eq!(make(&bench, ADMIN, "/cse", 19, json!({"rn": "rule"})).code, 2001);
    for bad in [
        json!({"aai": ["APP01"]}),
        json!({"aai": ["N*", "rlight"]}),
        json!({"aai": [""]}),
        json!({"aai": "N*"}),
        json!({"aai": ["N x"]}),
        json!({"aae": ["light"]}),
        json!({"aae": ["C/x"]}),
        json!({"aae": [1]}),
        json!({"apci": ["a b"]}),
        json!({"apci": [""]}),
        json!({"aci": "00-x"}),
        json!({"aci": [12]}),
        json!({"apci": vec!["*"; 65]}),
        json!({"ari": ["x".repeat(257)]}),
        json!({"api": "N*"}),
    ] {
        assert_eq!(make(&bench, ADMIN, "/cse", 19, bad.clone()).code, 4000, "{bad}");
        let reply = bench.update(ADMIN, "/cse/rule", json!({ "m2m:asar": bad }));
        assert_eq!(reply.code, 4000, "{bad}");
    }
}

#[test]
fn subscribed_node_belongs_to_one_cse() {
    let bench = bench();
    assert_eq!(make(&bench, ADMIN, "/cse", 11, json!({"rn": "a"})).code, 2001);
    assert_eq!(make(&bench, ADMIN, "/cse", 11, json!({"rn": "b"})).code, 2001);
    let node = json!({"rn": "n", "ni": "n", "csi": "/mn-1", "rlk": []});
    assert_eq!(make(&bench, ADMIN, "/cse/a", 20, node).code, 2001);
    let node = json!({"ni": "n", "csi": "//in.provider.com/mn-1"});
    let reply = make(&bench, ADMIN, "/cse/b", 20, node);
    assert_eq!((reply.code, reply.why().contains("CSE-ID")), (4105, true));
    for (bad, code) in [
        (json!({}), 4000),
        (json!({"ni": ""}), 4000),
        (json!({"ni": "n", "csi": "mn-2"}), 4000),
        (json!({"ni": "n", "csi": "/mn-2/Cx"}), 4000),
        (json!({"ni": "n", "csi": "//other.com/mn-2"}), 4000),
        (json!({"ni": "n", "rlk": []}), 4000),
        (json!({"ni": "n", "csi": "/mn-2", "rlk": ["a//b"]}), 4000),
        (json!({"ni": "n", "csi": "/mn-2", "rlk": vec!["cse/x"; 257]}), 4000),
        (json!({"ni": "n", "nrq": "no"}), 4000),
        (json!({"ni": "n", "what": 1}), 4000),
        (json!({"ni": "n", "daci": []}), 5001),
    ] {
        assert_eq!(make(&bench, ADMIN, "/cse/b", 20, bad.clone()).code, code, "{bad}");
    }
    // A node without a CSE has no rules, and there may be many of them.
    for name in ["x", "y"] {
        assert_eq!(make(&bench, ADMIN, "/cse/b", 20, json!({"rn": name, "ni": "n"})).code, 2001);
    }
    let update =
        |path, attributes| bench.update(ADMIN, path, json!({ "m2m:svsn": attributes })).code;
    assert_eq!(update("/cse/b/x", json!({"rlk": []})), 4000);
    assert_eq!(update("/cse/a/n", json!({"csi": "/mn-2"})), 4000);
    assert_eq!(update("/cse/a/n", json!({"ni": "m"})), 4000);
    assert_eq!(update("/cse/a/n", json!({"di": ["x"]})), 4000);
    assert_eq!(update("/cse/a/n", json!({"nrq": true, "rlk": null})), 2004);
    assert_eq!(bench.delete(ADMIN, "/cse/a").code, 2002);
    assert_eq!(make(&bench, ADMIN, "/cse/b", 20, json!({"ni": "n", "csi": "/mn-1"})).code, 2001);
}

#[test]
fn administrators_alone_say_who_may_register() {
    let bench = bench();
    assert_eq!(make(&bench, ADMIN, "/cse", 11, json!({"rn": "sub"})).code, 2001);
    assert_eq!(make(&bench, ADMIN, "/cse", 19, json!({"rn": "rule"})).code, 2001);
    assert_eq!(make(&bench, ADMIN, "/cse/sub", 20, json!({"rn": "n", "ni": "n"})).code, 2001);
    // Independently of policies.
    let all = json!({"acr": [{"acor": ["all"], "acop": 63}]});
    let acp = json!({"m2m:acp": {"rn": "acp", "pv": all, "pvs": all}});
    assert_eq!(bench.create(Some(ADMIN), "/cse", 1, acp).code, 2001);
    for (path, root) in
        [("/cse/sub", "m2m:mssp"), ("/cse/rule", "m2m:asar"), ("/cse/sub/n", "m2m:svsn")]
    {
        let change = json!({ root: { "acpi": ["cse/acp"] } });
        assert_eq!(bench.update(ADMIN, path, change).code, 2004, "{path}");
        for other in [LIGHT1, "/mn-1"] {
            assert_eq!(bench.retrieve(other, path).code, 2000, "{path}");
            let change = json!({ root: { "lbl": ["x"] } });
            assert_eq!(bench.update(other, path, change).code, 4103, "{path}");
            let change = json!({ root: { "acpi": null } });
            assert_eq!(bench.update(other, path, change).code, 4103, "{path}");
            assert_eq!(bench.delete(other, path).code, 4103, "{path}");
        }
    }
    for other in [LIGHT1, "/mn-1", "Cnobody", "/mn-1/Cadmin", "/mn-cse-123456/Cadmin"] {
        for (path, ty) in [("/cse", 11), ("/cse", 19), ("/cse/sub", 20)] {
            let code = make(&bench, other, path, ty, json!({"ni": "n"})).code;
            assert_eq!(code, 4103, "{other} {path} {ty}");
        }
    }
    // Without administrators, no originator may.
    let bench = Bench::lights(Settings { cse_type: 1, ..settings() });
    for (path, ty) in [("/cse", 11), ("/cse", 19)] {
        assert_eq!(make(&bench, LIGHT1, path, ty, json!({})).code, 4103, "{ty}");
    }
    assert_eq!(about(&bench, "/mn-1"), ServiceSubscription::NoProfile);
}

#[test]
fn service_subscriptions_are_on_an_in_cse() {
    for cse_type in [2, 3] {
        let administrators = vec![ADMIN.parse().unwrap()];
        let bench = Bench::lights(Settings { cse_type, administrators, ..settings() });
        assert_eq!(bench.register(ADMIN, "admin").code, 2001);
        for ty in [11, 19, 20] {
            assert_eq!(make(&bench, ADMIN, "/cse", ty, json!({"ni": "n"})).code, 4005, "{ty}");
        }
        assert_eq!(make(&bench, ADMIN, "/cse", 14, json!({"ni": "n"})).code, 2001);
        assert_eq!(about(&bench, "/mn-1"), ServiceSubscription::NoProfile);
    }
    let bench = bench();
    let types = bench.retrieve(LIGHT1, "/cse").attributes()["srt"].clone();
    assert_eq!(
        types,
        json!([
            1, 2, 3, 4, 5, 9, 10, 11, 13, 14, 15, 16, 17, 18, 19, 20, 23, 28, 29, 30, 58, 10002,
            10003, 10004, 10005, 10028
        ])
    );
    assert_eq!(make(&bench, ADMIN, "/cse", 20, json!({"ni": "n"})).code, 4108);
    for ty in [11, 19, 20] {
        for who in [ADMIN, LIGHT1] {
            assert_eq!(make(&bench, who, "/cse/light1", ty, json!({"ni": "n"})).code, 4103, "{ty}");
        }
        assert_eq!(make(&bench, ADMIN, "/cse/admin", ty, json!({"ni": "n"})).code, 4103, "{ty}");
    }
}

#[test]
fn node_lists_hosted_entities() {
    let bench = bench();
    let node = json!({"rn": "node", "ni": "n-1", "hcl": "/mn-1/cse", "hael": ["cse/light1"]});
    let reply = make(&bench, ADMIN, "/cse", 14, node);
    assert_eq!((reply.code, &reply.attributes()["ni"]), (2001, &json!("n-1")));
    assert_eq!(bench.retrieve(LIGHT1, "/cse/node").code, 4103);
    let update =
        |attributes| bench.update(ADMIN, "/cse/node", json!({ "m2m:nod": attributes })).code;
    assert_eq!(update(json!({"hael": null, "hsl": ["cse/x"], "mgca": "http://x"})), 2004);
    assert_eq!(update(json!({"ni": "n-2"})), 2004);
    for bad in [json!({"ni": ""}), json!({"ni": null}), json!({"hcl": ""}), json!({"hael": "x"})] {
        assert_eq!(update(bad.clone()), 4000, "{bad}");
    }
    assert_eq!(make(&bench, ADMIN, "/cse", 14, json!({})).code, 4000);
    assert_eq!(make(&bench, LIGHT1, "/cse", 14, json!({"ni": "n"})).code, 4103);
    assert_eq!(make(&bench, LIGHT1, "/cse/light1", 14, json!({"ni": "n"})).code, 4108);
    assert_eq!(bench.delete(ADMIN, "/cse/node").code, 2002);
}
