use serde_json::{Value, json};

use crate::budget::RequestBudget;
use crate::store::{StoreError, Writer};
use crate::testing::{Bench, LIGHT1, LIGHT2, agree, settings, subscribe};

const STATE: &str = "/cse/light1/state";
const SUB: &str = "/cse/light1/state/sub";
const TARGET: &str = "http://a.b/";

/// Subscribes to new instances, with these policies.
#[track_caller]
fn with_policies(bench: &Bench, policies: Value) -> Value {
    let mut sub = json!({"rn": "sub", "nu": [TARGET], "enc": {"net": [3]}, "nct": 1});
    sub.as_object_mut().unwrap().extend(policies.as_object().unwrap().clone());
    let reply = agree(bench, subscribe(bench, LIGHT1, STATE, sub));
    assert_eq!(reply.code, 2001, "{}", reply.why());
    reply.attributes().clone()
}

/// Returns the contents of a notification: one for each event.
fn contents(content: &[u8]) -> Vec<Value> {
    let content: Value = serde_json::from_slice(content).unwrap();
    let con = |notification: &Value| notification["nev"]["rep"]["m2m:cin"]["con"].clone();
    match content["m2m:agn"]["m2m:sgn"].as_array() {
        Some(batch) => batch.iter().map(con).collect(),
        None => vec![con(&content["m2m:sgn"])],
    }
}

/// Creates an instance, and returns the events that are sent at once.
#[track_caller]
fn put(bench: &Bench, content: u64) -> Vec<Vec<Value>> {
    let reply = bench.instance(LIGHT1, STATE, json!({ "con": content }));
    assert_eq!(reply.code, 2001, "{}", reply.why());
    reply.notifications.iter().map(|n| contents(&n.content)).collect()
}

/// Returns the events that are due.
fn due(bench: &Bench) -> Vec<Vec<Value>> {
    bench.take_due().iter().map(|n| contents(&n.content)).collect()
}

fn none() -> Vec<Vec<Value>> {
    Vec::new()
}

fn one(contents: &[u64]) -> Vec<Vec<Value>> {
    vec![contents.iter().map(|n| json!(n)).collect()]
}

#[test]
fn batch_is_sent_when_it_is_complete() {
    let mut bench = Bench::with_lights();
    let sub = with_policies(&bench, json!({"bn": {"num": 3}}));
    assert_eq!(sub["bn"], json!({"num": 3, "dur": "PT60S"}));
    assert_eq!((put(&bench, 1), put(&bench, 2)), (none(), none()));
    assert_eq!(put(&bench, 3), one(&[1, 2, 3]));
    // The next batch starts with the next event.
    assert_eq!(put(&bench, 4), none());
    bench.pass(59);
    assert_eq!(due(&bench), none());
    bench.cse().store().assert_consistent();
    // It survives a restart.
    let mut bench = bench.reopen();
    bench.pass(1);
    assert_eq!(due(&bench), one(&[4]));
    assert_eq!(due(&bench), none());
    bench.cse().store().assert_consistent();
}

#[test]
fn batch_goes_to_each_target() {
    let bench = Bench::with_lights();
    let policies = json!({"bn": {"num": 2}, "nu": [TARGET, "http://c.d/"]});
    with_policies(&bench, policies);
    assert_eq!(put(&bench, 1), none());
    assert_eq!(put(&bench, 2), [one(&[1, 2]), one(&[1, 2])].concat());
}

#[test]
fn rate_is_limited() {
    let mut bench = Bench::with_lights();
    with_policies(&bench, json!({"rl": {"mnn": 2, "tww": "PT10S"}}));
    assert_eq!((put(&bench, 1), put(&bench, 2)), (one(&[1]), one(&[2])));
    for n in 3..=5 {
        assert_eq!(put(&bench, n), none());
    }
    assert_eq!(due(&bench), none());
    bench.pass(10);
    assert_eq!(due(&bench), [one(&[3]), one(&[4])].concat());
    bench.pass(10);
    assert_eq!(due(&bench), one(&[5]));
    assert_eq!((put(&bench, 6), put(&bench, 7)), (one(&[6]), none()));
    bench.cse().store().assert_consistent();
}

#[test]
fn batches_respect_rate() {
    let mut bench = Bench::with_lights();
    with_policies(&bench, json!({"bn": {"num": 3}, "rl": {"mnn": 2, "tww": "PT10S"}}));
    assert_eq!((put(&bench, 1), put(&bench, 2)), (none(), none()));
    assert_eq!(put(&bench, 3), one(&[1, 2]));
    bench.pass(10);
    // One event is left, and is not a complete batch.
    assert_eq!(due(&bench), none());
    bench.pass(60);
    assert_eq!(due(&bench), one(&[3]));
}

#[test]
fn changed_policy_applies_to_waiting_events() {
    let bench = Bench::with_lights();
    with_policies(&bench, json!({"bn": {"num": 5}}));
    assert_eq!((put(&bench, 1), put(&bench, 2)), (none(), none()));
    let reply = bench.update(LIGHT1, SUB, json!({"m2m:sub": {"bn": null}}));
    let sent: Vec<_> = reply.notifications.iter().map(|n| contents(&n.content)).collect();
    assert_eq!(sent, [one(&[1]), one(&[2])].concat());
    assert_eq!(put(&bench, 3), one(&[3]));
    bench.cse().store().assert_consistent();
}

#[test]
fn counter_ends_subscription_with_its_waiting_events() {
    let bench = Bench::with_lights();
    with_policies(&bench, json!({"bn": {"num": 9}, "exc": 2}));
    assert_eq!((put(&bench, 1), put(&bench, 2)), (none(), one(&[1, 2])));
    assert_eq!(bench.retrieve(LIGHT1, SUB).code, 4004);
    bench.cse().store().assert_consistent();
}

#[test]
fn waiting_events_end_with_their_subscription() {
    let mut bench = Bench::with_lights();
    with_policies(&bench, json!({"bn": {"num": 9, "dur": "PT20S"}}));
    put(&bench, 1);
    assert_eq!(bench.delete(LIGHT1, SUB).code, 2002);
    bench.cse().store().assert_consistent();
    with_policies(&bench, json!({"bn": {"num": 9, "dur": "PT20S"}, "et": "20261124T093010"}));
    put(&bench, 2);
    bench.pass(20);
    assert_eq!(due(&bench), none());
    bench.sweep();
    bench.cse().store().assert_consistent();
    with_policies(&bench, json!({"bn": {"num": 9, "dur": "PT20S"}}));
    put(&bench, 3);
    assert_eq!(bench.delete(LIGHT1, "/cse/light1").code, 2002);
    bench.pass(20);
    assert_eq!(due(&bench), none());
    bench.sweep();
    bench.cse().store().assert_consistent();
}

#[test]
fn waiting_events_are_bounded() {
    let mut small = settings();
    small.limits.max_instances = 5;
    let mut bench = Bench::lights(small);
    with_policies(&bench, json!({"rl": {"mnn": 1, "tww": "PT10S"}}));
    for n in 0..=105 {
        put(&bench, n);
    }
    bench.pass(10);
    // The events 1 to 5 were dropped.
    assert_eq!(due(&bench), one(&[6]));
    bench.cse().store().assert_consistent();
}

#[test]
fn conditions_apply_to_child_or_resource() {
    let bench = Bench::with_lights();
    with_policies(&bench, json!({"enc": {"net": [3], "sza": 2}}));
    assert_eq!((put(&bench, 1), put(&bench, 22)), (none(), one(&[22])));
    let sub = json!({"nu": ["http://c.d/"], "enc": {"net": [1], "stb": 3, "crb": "20200101T000000", "fo": 2}});
    let reply = agree(&bench, subscribe(&bench, LIGHT1, STATE, sub));
    assert_eq!(reply.code, 2001, "{}", reply.why());
    let change = |n: u64| {
        let reply = bench.update(LIGHT1, STATE, json!({"m2m:cnt": {"mni": n}}));
        reply.notifications.len()
    };
    assert_eq!(change(9), 1);
    // The policies are only the owner's.
    let sub = json!({"m2m:sub": {"bn": null}});
    assert_eq!(bench.update(LIGHT2, SUB, sub).code, 4103);
}

#[test]
fn unsupported_policies_are_refused() {
    let bench = Bench::with_lights();
    for (policy, code) in [
        (json!({"pn": 3}), 4000),
        (json!({"nsp": 0}), 4000),
        (json!({"gpi": "a b"}), 4000),
        (json!({"bn": {"num": 0}}), 4000),
        (json!({"rl": {"mnn": 1}}), 4000),
        (json!({"psn": 0}), 4000),
        (json!({"ln": 1}), 4000),
        (json!({"nec": 1}), 4000),
        (json!({"nse": 1}), 4000),
        (json!({"nfu": ["http://a.b/"]}), 4000),
        (json!({"pn": 1, "nsp": 1, "gpi": "cse/group", "ln": false}), 2001),
    ] {
        let mut sub = json!({"nu": [LIGHT1]});
        sub.as_object_mut().unwrap().extend(policy.as_object().unwrap().clone());
        let reply = bench.create(Some(LIGHT1), STATE, 23, json!({ "m2m:sub": sub }));
        assert_eq!(reply.code, code, "{policy}: {}", reply.why());
    }
}

#[test]
fn waiting_events_respect_quota() {
    const MAX: u64 = 20_000;
    let mut small = settings();
    small.limits.max_instances = 1;
    small.limits.max_bytes_per_registree = MAX;
    let mut bench = Bench::lights(small);
    with_policies(&bench, json!({"bn": {"num": 100}}));
    let used = |bench: &Bench| {
        let used = |writer: &mut Writer<'_>| writer.usage(LIGHT1);
        bench.cse().store().write::<_, StoreError>(&RequestBudget::unlimited(), used).unwrap()
    };
    for n in 0..40 {
        let content = json!({"con": format!("{n:04}{}", "x".repeat(1000))});
        let reply = bench.instance(LIGHT1, STATE, content);
        assert_eq!(reply.code, if n < 10 { 2001 } else { reply.code }, "{}", reply.why());
        assert!(used(&bench).bytes <= MAX + 16, "{} after {n}", used(&bench).bytes);
    }
    bench.cse().store().assert_consistent();
    bench.pass(60);
    let due = due(&bench);
    assert_eq!(due.len(), 1);
    assert!((5..20).contains(&due[0].len()), "{}", due[0].len());
    bench.cse().store().assert_consistent();
}

#[test]
fn waiting_events_are_not_sent_to_new_targets() {
    let mut bench = Bench::with_lights();
    with_policies(&bench, json!({"bn": {"num": 9}}));
    let acp = json!({"m2m:acp": {
        "rn": "acp",
        "pv": {"acr": [{"acor": [LIGHT1], "acop": 63}, {"acor": [LIGHT2], "acop": 4}]},
        "pvs": {"acr": [{"acor": [LIGHT1], "acop": 63}]},
    }});
    assert_eq!(bench.create(Some(LIGHT1), "/cse/light1", 1, acp).code, 2001);
    let acpi = json!({"m2m:cnt": {"acpi": ["cse/light1/acp"]}});
    assert_eq!(bench.update(LIGHT1, STATE, acpi).code, 2004);
    let poa = json!({"m2m:ae": {"poa": ["http://x.y/"], "rr": true}});
    assert_eq!(bench.update(LIGHT2, "/cse/light2", poa).code, 2004);
    assert_eq!((put(&bench, 1), put(&bench, 2)), (none(), none()));
    // Light 2 may change the subscription, but not retrieve the content.
    assert_eq!(bench.retrieve(LIGHT2, STATE).code, 4103);
    let change = json!({"m2m:sub": {"nu": [LIGHT2], "bn": null}});
    let reply = bench.update(LIGHT2, SUB, change);
    assert_eq!((reply.code, reply.notifications.len()), (2004, 0), "{}", reply.why());
    assert_eq!(put(&bench, 3), none());
    bench.pass(60);
    assert_eq!(due(&bench), none());
    bench.cse().store().assert_consistent();
    // The same targets of the same originator keep the events.
    let change = json!({"m2m:sub": {"nu": [LIGHT1], "bn": {"num": 9}}});
    assert_eq!(bench.update(LIGHT1, SUB, change.clone()).code, 2004);
    let poa = json!({"m2m:ae": {"poa": ["http://x.y/"], "rr": true}});
    assert_eq!(bench.update(LIGHT1, "/cse/light1", poa).code, 2004);
    assert_eq!(put(&bench, 4), none());
    assert_eq!(bench.update(LIGHT1, SUB, change).code, 2004);
    bench.pass(60);
    assert_eq!(due(&bench), one(&[4]));
    bench.cse().store().assert_consistent();
}
