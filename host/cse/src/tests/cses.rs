use serde_json::{Value, json};

use saegis_onem2m::id::CseId;

use crate::settings::Settings;
use crate::testing::{Bench, LIGHT1, LIGHT2, Reply, settings};

const ASN: &str = "/asn-1";

fn csr(extra: Value) -> Value {
    let mut csr = json!({"cb": "/asn-1/cse", "csi": ASN, "rr": true, "cst": 3, "srv": ["3"]});
    csr.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    json!({ "m2m:csr": csr })
}

fn register(bench: &Bench, from: Option<&str>, extra: Value) -> Reply {
    bench.create(from, "/cse", 16, csr(extra))
}

fn registered(bench: &Bench) -> Vec<String> {
    let now = std::time::UNIX_EPOCH + std::time::Duration::from_secs(bench.now());
    let all = bench.cse().registree_cses(now).unwrap();
    for cse in &all {
        assert!(bench.cse().is_registree_cse(cse, now).unwrap());
    }
    all.iter().map(ToString::to_string).collect()
}

fn is_registered(bench: &Bench, cse: &str) -> bool {
    let now = std::time::UNIX_EPOCH + std::time::Duration::from_secs(bench.now());
    bench.cse().is_registree_cse(&CseId::parse(cse).unwrap(), now).unwrap()
}

#[test]
fn cse_registers_at_csebase() {
    let bench = Bench::with_lights();
    assert_eq!(registered(&bench), Vec::<String>::new());
    let reply = register(&bench, Some(ASN), json!({"rn": "asn", "poa": ["http://10.0.0.1"]}));
    assert_eq!(reply.code, 2001, "{}", reply.why());
    assert_eq!(
        reply.json,
        json!({"m2m:csr": {
            "ty": 16, "ri": "csr-asn-1", "rn": "asn", "pi": "mn-cse-123456",
            "ct": "20261124T093000", "lt": "20261124T093000", "et": "20261224T093000",
            "cb": "/asn-1/cse", "csi": ASN, "rr": true, "cst": 3, "srv": ["3"],
            "poa": ["http://10.0.0.1"],
        }})
    );
    assert_eq!(registered(&bench), [ASN]);
    assert!(!is_registered(&bench, "asn-2"));
    for path in ["/cse/asn", "/csr-asn-1", "/~/mn-cse-123456/cse/asn"] {
        assert_eq!(bench.retrieve(ASN, path).json, reply.json, "{path}");
        for other in [LIGHT1, "/asn-2", "/asn-1/Capp", "Cnobody"] {
            assert_eq!(bench.retrieve(other, path).code, 4103, "{path} {other}");
        }
    }
    let second = csr(json!({"cb": "/asn-2/cse", "csi": "//in.provider.com/asn-2"}));
    let second = bench.create(Some("//in.provider.com/asn-2"), "/cse", 16, second);
    assert_eq!((second.code, &second.attributes()["rn"]), (2001, &json!("csr-asn-2")));
    // A CSE that omits its CSE-ID is identified by its From.
    let third = json!({"m2m:csr": {"cb": "/asn-3/cse", "rr": false}});
    let third = bench.create(Some("//in.provider.com/asn-3"), "/cse", 16, third);
    assert_eq!((third.code, &third.attributes()["csi"]), (2001, &json!("/asn-3")));
    assert_eq!(registered(&bench), [ASN, "/asn-2", "/asn-3"]);
    assert_eq!(registered(&bench.reopen()), [ASN, "/asn-2", "/asn-3"]);
}

#[test]
fn cse_cannot_register_twice() {
    let mut bench = Bench::new(settings());
    assert_eq!(register(&bench, Some(ASN), json!({"et": "20261124T093010"})).code, 2001);
    let again = register(&bench, Some(ASN), json!({}));
    assert_eq!((again.code, again.why()), (4117, "a CSE with this CSE-ID is registered already"));
    assert_eq!(register(&bench, Some("//in.provider.com/asn-1"), json!({})).code, 4117);
    let own = json!({"csi": "/mn-cse-123456"});
    assert_eq!(register(&bench, Some("/mn-cse-123456"), own).code, 4117);
    bench.pass(10);
    assert_eq!(registered(&bench), Vec::<String>::new());
    assert_eq!(register(&bench, Some(ASN), json!({})).code, 2001);
    assert_eq!(bench.delete(ASN, "/csr-asn-1").code, 2002);
    assert!(!is_registered(&bench, "asn-1"));
    assert_eq!(register(&bench, Some(ASN), json!({})).code, 2001);
    bench.cse().store().assert_consistent();
}

#[test]
fn only_cse_may_register_as_cse() {
    let bench = Bench::with_lights();
    assert_eq!(bench.register("Slight", "slight").code, 2001);
    for (from, code) in [
        (None, 4000),
        (Some(""), 4000),
        (Some("asn-1"), 4000),
        (Some("C"), 4005),
        (Some("S"), 4005),
        (Some(LIGHT1), 4005),
        (Some("Cnobody"), 4005),
        (Some("/asn-1/Capp"), 4005),
        (Some("/asn-1/S"), 4005),
        (Some("//in.provider.com/asn-1/Capp"), 4005),
        (Some("/Slight"), 4005),
        (Some("//other.com/asn-1"), 5001),
        // A different CSE-ID than in the representation.
        (Some("/asn-2"), 4000),
        (Some("//in.provider.com/asn-2"), 4000),
    ] {
        let reply = register(&bench, from, json!({}));
        assert_eq!(reply.code, code, "{from:?} {}", reply.why());
    }
    assert_eq!(registered(&bench), Vec::<String>::new());
}

#[test]
fn cse_registration_requires_attributes() {
    let bench = Bench::with_lights();
    for (extra, code) in [
        (json!({"csi": null}), 4000),
        (json!({"csi": "asn-1"}), 4000),
        (json!({"csi": "/asn-1/Cx"}), 4000),
        (json!({"csi": "/asn-2"}), 4000),
        (json!({"csi": "//other.com/asn-1"}), 4000),
        (json!({"cb": null}), 4000),
        (json!({"cb": "//"}), 4000),
        (json!({"rr": null}), 4000),
        (json!({"rr": 1}), 4000),
        (json!({"cst": 4}), 4000),
        (json!({"cst": "3"}), 4000),
        (json!({"nl": "a//b"}), 4000),
        (json!({"aei": "Cx"}), 4000),
        (json!({"tren": true}), 5001),
        (json!({"daci": []}), 5001),
    ] {
        assert_eq!(register(&bench, Some(ASN), extra.clone()).code, code, "{extra}");
    }
    assert_eq!(bench.create(Some(ASN), "/cse/light1", 16, csr(json!({}))).code, 4108);
    assert_eq!(bench.create(Some(ASN), "/elsewhere", 16, csr(json!({}))).code, 4004);
    assert_eq!(bench.create(Some(ASN), "/cse", 16, json!({"m2m:ae": {}})).code, 4000);
    assert_eq!(registered(&bench), Vec::<String>::new());
    let bench = Bench::new(Settings { cse_type: 3, ..settings() });
    assert_eq!(register(&bench, Some(ASN), json!({})).code, 4005);
    assert_eq!(
        bench.retrieve(ASN, "/cse").attributes()["srt"],
        json!([1, 2, 3, 4, 5, 9, 10, 13, 14, 15, 17, 18, 23, 28, 29, 30, 58])
    );
}

#[test]
fn registered_cse_has_subtree() {
    let bench = Bench::with_lights();
    assert_eq!(register(&bench, Some(ASN), json!({"rn": "asn"})).code, 2001);
    assert_eq!(bench.container(ASN, "/cse/asn", json!({"rn": "log"})).code, 2001);
    assert_eq!(bench.container("//in.provider.com/asn-1", "/cse/asn", json!({})).code, 2001);
    assert_eq!(bench.instance(ASN, "/cse/asn/log", json!({"con": 1})).code, 2001);
    assert_eq!(
        bench.create(Some(ASN), "/cse/asn", 14, json!({"m2m:nod": {"ni": "n1"}})).code,
        2001
    );
    for other in [LIGHT1, "/asn-2", "/asn-1/Capp", "//other.com/asn-1"] {
        assert_eq!(bench.retrieve(other, "/cse/asn/log/la").code, 4103, "{other}");
        assert_eq!(bench.container(other, "/cse/asn", json!({})).code, 4103, "{other}");
    }
    let found = bench.retrieve(ASN, "/cse?fu=1&ty=3");
    assert_eq!(found.found().len(), 2);
    assert_eq!(bench.retrieve(LIGHT2, "/cse?fu=1&ty=16").found(), Vec::<&str>::new());
    // It may access only its own resources.
    assert_eq!(bench.container(ASN, "/cse", json!({})).code, 4103);
    assert_eq!(bench.create(Some(ASN), "/cse", 14, json!({"m2m:nod": {"ni": "n1"}})).code, 4103);
    assert_eq!(bench.retrieve(ASN, "/cse/light1").code, 4103);
    let acp = json!({"rn": "acp", "pv": {"acr": [{"acor": [LIGHT1], "acop": 2}]},
        "pvs": {"acr": [{"acor": [ASN], "acop": 63}]}});
    assert_eq!(bench.create(Some(ASN), "/cse/asn", 1, json!({ "m2m:acp": acp })).code, 2001);
    let change = json!({"m2m:cnt": {"acpi": ["/mn-cse-123456/cse/asn/acp"]}});
    assert_eq!(bench.update(ASN, "/cse/asn/log", change).code, 2004);
    assert_eq!(bench.retrieve(LIGHT1, "/cse/asn/log/la").code, 2000);
    assert_eq!(bench.delete(ASN, "/cse/asn").code, 2002);
    bench.cse().store().assert_consistent();
}

#[test]
fn cse_updates_and_deletes_registration() {
    let mut bench = Bench::with_lights();
    assert_eq!(register(&bench, Some(ASN), json!({"rn": "asn"})).code, 2001);
    let update = |bench: &Bench, who, attributes| {
        bench.update(who, "/cse/asn", json!({ "m2m:csr": attributes }))
    };
    let change = json!({"poa": ["http://10.0.0.2"], "rr": false, "srv": null, "nl": "/asn-1/n"});
    let reply = update(&bench, ASN, change);
    assert_eq!((reply.code, &reply.attributes()["rr"]), (2004, &json!(false)));
    for (attributes, code) in [
        (json!({"csi": "/asn-2"}), 4000),
        (json!({"csi": null}), 4000),
        (json!({"cb": "/asn-2/cse"}), 4000),
        (json!({"cst": 1}), 4000),
        (json!({"rr": null}), 4000),
        (json!({"trn": 1}), 5001),
    ] {
        assert_eq!(update(&bench, ASN, attributes.clone()).code, code, "{attributes}");
    }
    for other in [LIGHT1, "/asn-2", "/asn-1/Capp"] {
        assert_eq!(update(&bench, other, json!({"rr": true})).code, 4103, "{other}");
        assert_eq!(bench.delete(other, "/cse/asn").code, 4103, "{other}");
    }
    assert_eq!(update(&bench, ASN, json!({"et": "20261124T093010"})).code, 2004);
    bench.pass(10);
    assert_eq!(bench.retrieve(LIGHT1, "/csr-asn-1").code, 4004);
    assert_eq!(update(&bench, ASN, json!({"rr": true})).code, 4004);
    bench.cse().store().assert_consistent();
}

#[test]
fn cse_id_and_ae_id_cannot_be_equal() {
    let bench = Bench::with_lights();
    let cse = json!({"csi": "/Scse", "cb": "/Scse/cse"});
    assert_eq!(register(&bench, Some("/Scse"), cse).code, 2001);
    assert_eq!(bench.register("Scse", "scse").code, 4105);
    assert_eq!(bench.register("Sother", "sother").code, 2001);
    assert_eq!(bench.delete("/Scse", "/csr-Scse").code, 2002);
    assert_eq!(bench.register("Scse", "scse").code, 2001);
    // Its resource-ID must not be ambiguous either.
    let bench = Bench::new(Settings { csebase_name: "csr-asn-1".into(), ..settings() });
    let reply = bench.create(Some(ASN), "/-", 16, csr(json!({})));
    assert_eq!(reply.code, 4105);
}

#[test]
fn rule_may_be_limited_to_registrees() {
    let bench = Bench::with_lights();
    let acp = json!({"rn": "acp", "pvs": {"acr": [{"acor": [LIGHT1], "acop": 63}]},
        "pv": {"acr": [{"acor": ["all"], "acop": 2, "acaf": true}]}});
    assert_eq!(bench.create(Some(LIGHT1), "/cse/light1", 1, json!({ "m2m:acp": acp })).code, 2001);
    let change = json!({"m2m:cnt": {"acpi": ["cse/light1/acp"]}});
    assert_eq!(bench.update(LIGHT1, "/cse/light1/state", change).code, 2004);
    assert_eq!(register(&bench, Some(ASN), json!({})).code, 2001);
    for (who, code) in [
        (LIGHT2, 2000),
        (ASN, 2000),
        ("//in.provider.com/asn-1", 2000),
        ("/asn-1/Capp", 4103),
        ("/asn-2", 4103),
        ("//other.com/asn-1", 4103),
        ("Cnobody", 4103),
    ] {
        assert_eq!(bench.retrieve(who, "/cse/light1/state").code, code, "{who}");
    }
}
