//! The statistics of a subscription.

use serde_json::{Value, json};

use crate::testing::{Bench, LIGHT1, Reply, agree, subscribe};

const STATE: &str = "/cse/light1/state";
const SUB: &str = "/cse/light1/state/sub";
const URL: &str = "http://a.b/";
const OTHER: &str = "http://c.d/";

fn bench(policies: Value) -> Bench {
    let bench = Bench::with_lights();
    let mut sub = json!({"rn": "sub", "nu": [URL, OTHER], "enc": {"net": [3]}, "nse": true});
    sub.as_object_mut().unwrap().extend(policies.as_object().unwrap().clone());
    let reply = agree(&bench, subscribe(&bench, LIGHT1, STATE, sub));
    assert_eq!((reply.code, reply.attributes().get("nsi")), (2001, None), "{}", reply.why());
    bench
}

fn put(bench: &Bench) -> Reply {
    let reply = bench.instance(LIGHT1, STATE, json!({"con": 1}));
    assert_eq!(reply.code, 2001, "{}", reply.why());
    reply
}

/// Returns requests, responses and events of each target.
fn statistics(bench: &Bench) -> Value {
    // Stores the responses.
    bench.take_due();
    let shown = bench.retrieve(LIGHT1, SUB);
    let entries = shown.attributes()["nsi"].as_array().cloned().unwrap_or_default();
    entries
        .iter()
        .map(|entry| json!([entry["tg"], entry["rqs"], entry["rsr"], entry["noec"]]))
        .collect()
}

fn change(bench: &Bench, sub: Value) {
    let reply = agree(
        bench,
        bench.handle(&crate::testing::request(
            saegis_onem2m::primitive::Operation::Update,
            SUB,
            Some(LIGHT1),
            Some(json!({ "m2m:sub": sub })),
        )),
    );
    assert_eq!(reply.code, 2004, "{}", reply.why());
}

#[test]
fn requests_and_responses_are_counted_by_target() {
    let bench = bench(json!({}));
    let first = put(&bench);
    assert_eq!(first.notifications.len(), 2);
    first.notifications[1].receipt.responded();
    assert_eq!(statistics(&bench), json!([[URL, 1, 0, 1], [OTHER, 1, 1, 1]]));
    let second = put(&bench);
    second.notifications.iter().for_each(|n| n.receipt.responded());
    assert_eq!(statistics(&bench), json!([[URL, 2, 1, 2], [OTHER, 2, 2, 2]]));
    let bench = bench.reopen();
    assert_eq!(statistics(&bench), json!([[URL, 2, 1, 2], [OTHER, 2, 2, 2]]));
    // A former target is forgotten.
    change(&bench, json!({"nu": [OTHER]}));
    assert_eq!(statistics(&bench), json!([[OTHER, 2, 2, 2]]));
    first.notifications[0].receipt.responded();
    assert_eq!(statistics(&bench), json!([[OTHER, 2, 2, 2]]));
    bench.cse().store().assert_consistent();
}

#[test]
fn batch_is_one_request_for_several_events() {
    let bench = bench(json!({"bn": {"num": 2}, "nu": [URL]}));
    put(&bench);
    assert_eq!(statistics(&bench), json!([[URL, 0, 0, 1]]));
    put(&bench).notifications[0].receipt.responded();
    assert_eq!(statistics(&bench), json!([[URL, 1, 1, 2]]));
}

#[test]
fn statistics_can_be_disabled_and_restarted() {
    let bench = bench(json!({"nu": [URL]}));
    put(&bench);
    change(&bench, json!({"nse": false}));
    let late = put(&bench);
    late.notifications[0].receipt.responded();
    assert_eq!(statistics(&bench), json!([[URL, 1, 0, 1]]));
    change(&bench, json!({"nse": true}));
    assert_eq!(statistics(&bench), json!([]));
    put(&bench);
    assert_eq!(statistics(&bench), json!([[URL, 1, 0, 1]]));
    change(&bench, json!({"nse": null}));
    assert_eq!(statistics(&bench), json!([]));
}

#[test]
fn response_of_former_subscription_is_ignored() {
    let bench = bench(json!({"nu": [URL]}));
    let sent = put(&bench);
    assert_eq!(bench.delete(LIGHT1, SUB).code, 2002);
    sent.notifications[0].receipt.responded();
    bench.take_due();
    bench.cse().store().assert_consistent();
}
