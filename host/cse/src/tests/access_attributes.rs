//! Access control rules that are limited to attributes (`aca`).

use serde_json::{Value, json};

use super::names::STATE;
use super::policies::{govern, policy, rule};
use crate::testing::{Bench, LIGHT1, LIGHT2, subscribe};

/// Returns a CSE on which light 2 may execute operations on some attributes of the state of light 1.
fn bench(rules: Value) -> Bench {
    let bench = Bench::with_lights();
    let label = json!({"m2m:cnt": {"lbl": ["room"], "or": "o"}});
    assert_eq!(bench.update(LIGHT1, STATE, label).code, 2004);
    assert_eq!(bench.instance(LIGHT1, STATE, json!({"con": "on"})).code, 2001);
    let mut all = rules.as_array().unwrap().clone();
    all.push(json!({"acor": [LIGHT1], "acop": 63}));
    let reply = policy(&bench, "some", json!({ "acr": all }));
    assert_eq!(reply.code, 2001, "{}", reply.why());
    assert_eq!(govern(&bench, LIGHT1, STATE, &["cse/light1/some"]), 2004);
    bench
}

fn only(attributes: &[&str], operations: u8) -> Value {
    json!([{"acor": [LIGHT2], "acop": operations, "aca": attributes}])
}

#[test]
fn only_named_attributes_are_retrieved() {
    let bench = bench(only(&["lbl", "cni"], 63));
    let some = bench.retrieve(LIGHT2, &format!("{STATE}?atrl=lbl+cni"));
    assert_eq!((some.code, some.attributes()), (2000, &json!({"lbl": ["room"], "cni": 1})));
    for query in [
        "",
        "?atrl=lbl+or",
        "?atrl=ct",
        "?atrl=none",
        "?rcn=4",
        "?rcn=5",
        "?rcn=6",
        "?rcn=8",
        "?fu=1",
        "?fu=1&rcn=11",
    ] {
        let refused = bench.retrieve(LIGHT2, &format!("{STATE}{query}"));
        assert_eq!(refused.code, 4103, "{query}");
    }
    // The instances follow the rules of their container.
    for path in ["la", "ol"] {
        assert_eq!(bench.retrieve(LIGHT2, &format!("{STATE}/{path}")).code, 4103);
        assert_eq!(bench.retrieve(LIGHT2, &format!("{STATE}/{path}?atrl=con")).code, 4103);
    }
    // The owner has another rule.
    assert_eq!(bench.retrieve(LIGHT1, STATE).code, 2000);
    let other = bench.retrieve("Cother", &format!("{STATE}?atrl=lbl"));
    assert_eq!(other.code, 4103);
}

#[test]
fn content_can_be_retrieved_alone() {
    let bench = bench(only(&["con"], 2));
    let latest = bench.retrieve(LIGHT2, &format!("{STATE}/la?atrl=con"));
    assert_eq!((latest.code, latest.attributes()), (2000, &json!({"con": "on"})));
    assert_eq!(bench.retrieve(LIGHT2, &format!("{STATE}/la")).code, 4103);
}

#[test]
fn rule_with_all_attributes_allows_whole_retrieval() {
    let bench = Bench::with_lights();
    let shown = bench.retrieve(LIGHT1, STATE);
    let mut all: Vec<_> = shown.attributes().as_object().unwrap().keys().cloned().collect();
    all.push("acpi".into());
    let rules = json!({"acr": [
        {"acor": [LIGHT2], "acop": 2, "aca": all[..3]},
        {"acor": ["C*"], "acop": 2, "aca": all[3..]},
        {"acor": [LIGHT1], "acop": 63},
    ]});
    assert_eq!(policy(&bench, "some", rules).code, 2001);
    assert_eq!(govern(&bench, LIGHT1, STATE, &["cse/light1/some"]), 2004);
    assert_eq!(bench.retrieve(LIGHT2, STATE).code, 2000);
    let label = json!({"m2m:cnt": {"or": "new"}});
    assert_eq!(bench.update(LIGHT1, STATE, label).code, 2004);
    assert_eq!(bench.retrieve(LIGHT2, STATE).code, 4103, "or is not among them");
}

#[test]
fn only_named_attributes_are_updated() {
    let bench = bench(only(&["lbl"], 4));
    let update = |change: Value| bench.update(LIGHT2, STATE, json!({ "m2m:cnt": change }));
    let changed = update(json!({"lbl": ["hall"]}));
    // The response has no other attributes.
    assert_eq!((changed.code, changed.attributes()), (2004, &json!({"lbl": ["hall"]})));
    for change in [
        json!({"lbl": ["hall"], "or": "x"}),
        json!({"or": "x"}),
        json!({"et": "20991231T000000"}),
        json!({"acpi": null}),
        json!({"lbl": null, "mni": 1}),
    ] {
        assert_eq!(update(change.clone()).code, 4103, "{change}");
    }
    assert_eq!(update(json!({"lbl": 1})).code, 4000);
    assert_eq!(update(json!({"lbl": null})).code, 2004);
    assert_eq!(bench.retrieve(LIGHT2, &format!("{STATE}?atrl=lbl")).code, 4103);
}

#[test]
fn only_named_attributes_are_created() {
    let bench = bench(only(&["rn", "lbl", "con"], 1));
    let create = |attributes: Value| bench.container(LIGHT2, STATE, attributes).code;
    assert_eq!(create(json!({"rn": "a", "lbl": ["x"]})), 2001);
    assert_eq!(create(json!({"rn": "b", "mni": 1})), 4103);
    assert_eq!(create(json!({"rn": "c", "acpi": ["cse/light1/some"]})), 4103);
    assert_eq!(bench.instance(LIGHT2, STATE, json!({"con": 1})).code, 2001);
    assert_eq!(bench.instance(LIGHT2, STATE, json!({"con": 1, "cnf": "text/plain:0"})).code, 4103);
}

#[test]
fn other_operations_need_rule_without_attributes() {
    let all = [
        "lbl", "rn", "nu", "ty", "ri", "pi", "ct", "lt", "et", "or", "st", "cni", "cbs", "mni",
        "mbs", "acpi",
    ];
    let bench = bench(only(&all, 63));
    assert_eq!(bench.retrieve(LIGHT2, STATE).code, 2000);
    assert_eq!(bench.delete(LIGHT2, STATE).code, 4103);
    assert_eq!(bench.delete(LIGHT2, &format!("{STATE}/la")).code, 4103);
    let found = bench.retrieve(LIGHT2, "/cse?fu=1&ty=3");
    assert_eq!(found.found(), ["cse/light2/state"]);
    // A subscription would report all attributes.
    let crate::Handled::Done(answer) = subscribe(&bench, LIGHT2, STATE, json!({"nu": [LIGHT2]}))
    else {
        panic!("it is not refused");
    };
    assert!(matches!(answer.response.rsc.code(), 4101 | 4103));
}

#[test]
fn self_privileges_can_be_limited_to_attributes() {
    let bench = Bench::with_lights();
    let own = json!({"acr": [
        {"acor": [LIGHT1], "acop": 63},
        {"acor": [LIGHT2], "acop": 6, "aca": ["lbl"]},
    ]});
    let acp = json!({"m2m:acp": {"rn": "some", "pv": rule(&[LIGHT1], 63), "pvs": own}});
    assert_eq!(bench.create(Some(LIGHT1), "/cse/light1", 1, acp).code, 2001);
    assert_eq!(govern(&bench, LIGHT1, STATE, &["cse/light1/some"]), 2004);
    let update =
        |change: Value| bench.update(LIGHT2, "/cse/light1/some", json!({ "m2m:acp": change })).code;
    assert_eq!(update(json!({"lbl": ["x"]})), 2004);
    assert_eq!(update(json!({"pv": rule(&[LIGHT2], 63)})), 4103);
    assert_eq!(update(json!({"pvs": rule(&[LIGHT2], 63)})), 4103);
    assert_eq!(bench.retrieve(LIGHT2, "/cse/light1/some").code, 4103);
    // The right to change a label gives no right to change which policies apply.
    assert_eq!(govern(&bench, LIGHT2, STATE, &[]), 4103);
}
