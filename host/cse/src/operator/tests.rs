use super::*;
use crate::testing::{Bench, LIGHT1, settings};

#[test]
fn operator_changes_resources() {
    let bench = Bench::with_lights();
    let path = bench.path();
    let refused = Operator::open(&path, settings()).err().unwrap().to_string();
    assert!(refused.contains("stop it first"), "{refused}");
    let (directory, path) = bench.stop();
    let operator = Operator::open(&path, settings()).unwrap();
    let changed = json!({"m2m:cnt": {"lbl": ["x"]}});
    let changed = operator.update("cse/light1/state", &changed).unwrap();
    assert_eq!(changed["m2m:cnt"]["lbl"], json!(["x"]));
    let acp = json!({"m2m:acp": {"rn": "acp", "pv": {}, "pvs": {"acr": [
        {"acor": [LIGHT1], "acop": 63}]}}});
    operator.create("cse/light1", 1, &acp).unwrap();
    for (address, change, why) in [
        ("cse/light1/other", json!({"m2m:cnt": {}}), "4004"),
        ("cse/light1/state", json!({"m2m:cnt": {"lbl": 1}}), "4000"),
        ("cse/light1/state", json!({"m2m:ae": {}}), "4000"),
        ("cse", json!({"m2m:cb": {}}), "4005"),
        ("a b", json!({}), "address"),
    ] {
        let refused = operator.update(address, &change).unwrap_err().to_string();
        assert!(refused.contains(why), "{refused}");
    }
    let ae = json!({"m2m:ae": {"api": "Nx", "rr": true}});
    let refused = operator.create("cse", 2, &ae).unwrap_err().to_string();
    assert!(refused.contains("register itself"), "{refused}");
    drop(operator);
    let missing = directory.path().join("missing");
    assert!(matches!(Operator::open(&missing, settings()), Err(OperatorError::NoStore)));
    assert!(!missing.exists());
}

#[test]
fn operator_changes_are_not_notified() {
    let bench = Bench::with_lights();
    for (name, more) in [("once", json!({"exc": 1})), ("batch", json!({"bn": {"num": 9}}))] {
        let mut sub = json!({"rn": name, "nu": [LIGHT1], "enc": {"net": [1]}});
        sub.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let sub = json!({ "m2m:sub": sub });
        let created = bench.create(Some(LIGHT1), "/cse/light1/state", 23, sub);
        assert_eq!(created.code, 2001, "{}", created.why());
    }
    let (directory, path) = bench.stop();
    let operator = Operator::open(&path, settings()).unwrap();
    operator.update("cse/light1/state", &json!({"m2m:cnt": {"lbl": ["x"]}})).unwrap();
    drop(operator);
    let bench = Bench::at(directory, settings());
    assert!(bench.cse().store().all_retries().unwrap().is_empty());
    for name in ["once", "batch"] {
        let sub = bench.retrieve(LIGHT1, &format!("/cse/light1/state/{name}"));
        assert_eq!(sub.code, 2000, "{name}");
    }
    assert!(bench.take_due().is_empty());
}
