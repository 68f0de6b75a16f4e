//! The schedule of a subscription, and the policies for events outside of it.

use serde_json::{Value, json};

use crate::testing::{Bench, LIGHT1, LIGHT2, Reply, agree, subscribe};

const STATE: &str = "/cse/light1/state";
const SUB: &str = "/cse/light1/state/sub";

/// Open in the first half of each minute, where the tests start.
const HALF: &str = "0-29 * * * * * *";

fn schedule(bench: &Bench, entries: Value) -> Reply {
    let sch = json!({"m2m:sch": {"rn": "times", "se": {"sce": entries}}});
    bench.create(Some(LIGHT1), SUB, 18, sch)
}

/// Returns a CSE with a subscription to new instances, which has a schedule.
fn bench(policies: Value) -> Bench {
    let bench = Bench::with_lights();
    let mut sub = json!({"rn": "sub", "nu": ["http://a.b/"], "enc": {"net": [3]}, "nct": 1});
    sub.as_object_mut().unwrap().extend(policies.as_object().unwrap().clone());
    let reply = agree(&bench, subscribe(&bench, LIGHT1, STATE, sub));
    assert_eq!(reply.code, 2001, "{}", reply.why());
    let reply = schedule(&bench, json!([HALF]));
    assert_eq!(reply.code, 2001, "{}", reply.why());
    bench
}

type Sent = Vec<(Vec<Value>, Option<u16>)>;

fn sent<'n>(all: impl IntoIterator<Item = &'n crate::Notification>) -> Sent {
    let contents = |content: &[u8]| {
        let content: Value = serde_json::from_slice(content).unwrap();
        let con = |sgn: &Value| sgn["nev"]["rep"]["m2m:cin"]["con"].clone();
        match content["m2m:agn"]["m2m:sgn"].as_array() {
            Some(batch) => batch.iter().map(con).collect(),
            None => vec![con(&content["m2m:sgn"])],
        }
    };
    all.into_iter().map(|n| (contents(&n.content), n.category)).collect()
}

fn put(bench: &Bench, content: u64) -> Sent {
    let reply = bench.instance(LIGHT1, STATE, json!({ "con": content }));
    assert_eq!(reply.code, 2001, "{}", reply.why());
    sent(&reply.notifications)
}

fn due(bench: &Bench) -> Sent {
    sent(bench.take_due().iter())
}

fn one(content: u64, category: Option<u16>) -> Sent {
    vec![(vec![json!(content)], category)]
}

#[test]
fn events_outside_of_schedule_are_dropped() {
    let mut bench = bench(json!({}));
    assert_eq!(put(&bench, 1), one(1, None));
    bench.pass(30);
    assert!(put(&bench, 2).is_empty());
    bench.pass(30);
    assert!(due(&bench).is_empty());
    assert_eq!(put(&bench, 3), one(3, None));
    bench.cse().store().assert_consistent();
}

#[test]
fn all_pending_events_are_sent_when_schedule_allows() {
    let mut bench = bench(json!({"pn": 2}));
    bench.pass(30);
    assert!(put(&bench, 1).is_empty() && put(&bench, 2).is_empty());
    bench.pass(29);
    assert!(due(&bench).is_empty());
    let mut bench = bench.reopen();
    bench.pass(1);
    assert_eq!(due(&bench), [one(1, None), one(2, None)].concat());
    assert!(due(&bench).is_empty());
    // Pending events precede a new one.
    bench.pass(30);
    assert!(put(&bench, 3).is_empty());
    bench.pass(30);
    assert_eq!(put(&bench, 4), [one(3, None), one(4, None)].concat());
    bench.cse().store().assert_consistent();
}

#[test]
fn latest_pending_event_is_sent() {
    let mut bench = bench(json!({"pn": 1}));
    bench.pass(30);
    assert!(put(&bench, 1).is_empty() && put(&bench, 2).is_empty());
    bench.pass(30);
    assert_eq!(due(&bench), one(2, Some(4)));
    assert_eq!(put(&bench, 3), one(3, None));
    bench.cse().store().assert_consistent();
}

#[test]
fn pause_of_cse_does_not_open_schedule() {
    let mut bench = bench(json!({"pn": 2}));
    bench.pass(30);
    put(&bench, 1);
    // It was open in the meantime, while the CSE did not run.
    bench.pass(70);
    assert!(due(&bench).is_empty());
    bench.pass(20);
    assert_eq!(due(&bench), one(1, None));
}

#[test]
fn immediate_events_ignore_schedule() {
    let mut bench = bench(json!({"nec": 2}));
    bench.pass(30);
    assert_eq!(put(&bench, 1), one(1, Some(2)));
}

#[test]
fn batch_waits_for_schedule() {
    let mut bench = bench(json!({"pn": 2, "bn": {"num": 2, "dur": "PT1H"}}));
    bench.pass(30);
    assert!(put(&bench, 1).is_empty() && put(&bench, 2).is_empty());
    bench.pass(30);
    assert_eq!(due(&bench), [(vec![json!(1), json!(2)], None)]);
}

#[test]
fn changed_policy_drops_pending_events() {
    let change = |bench: &Bench, pn: Value| {
        let reply = bench.update(LIGHT1, SUB, json!({"m2m:sub": {"pn": pn}}));
        assert_eq!(reply.code, 2004, "{}", reply.why());
    };
    for (pn, expected) in [(json!(1), one(2, Some(4))), (json!(null), Vec::new())] {
        let mut bench = bench(json!({"pn": 2}));
        bench.pass(30);
        assert!(put(&bench, 1).is_empty() && put(&bench, 2).is_empty());
        change(&bench, pn);
        bench.pass(30);
        assert_eq!(due(&bench), expected);
        bench.cse().store().assert_consistent();
    }
}

#[test]
fn changed_schedule_applies_to_pending_events() {
    let mut bench = bench(json!({"pn": 2}));
    bench.pass(30);
    put(&bench, 1);
    let times = "/cse/light1/state/sub/times";
    let never = json!({"m2m:sch": {"se": {"sce": ["* * * * * * 2020"]}}});
    assert_eq!(bench.update(LIGHT1, times, never).code, 2004);
    bench.pass(60 * 60);
    assert!(due(&bench).is_empty() && put(&bench, 2).is_empty());
    let reply = bench.update(LIGHT1, times, json!({"m2m:sch": {"se": {"sce": ["* * * * * * *"]}}}));
    assert_eq!(sent(&reply.notifications), [one(1, None), one(2, None)].concat());
    assert_eq!(schedule(&bench, json!([HALF])).code, 5207);
    // Without a schedule, notifications are always allowed.
    assert_eq!(bench.update(LIGHT1, times, json!({"m2m:sch": {"se": {"sce": [HALF]}}})).code, 2004);
    assert!(put(&bench, 3).is_empty());
    let reply = bench.delete(LIGHT1, times);
    assert_eq!((reply.code, sent(&reply.notifications)), (2002, one(3, None)));
    assert_eq!(put(&bench, 4), one(4, None));
    bench.cse().store().assert_consistent();
}

#[test]
fn schedule_is_checked() {
    let bench = bench(json!({}));
    let more = json!({"m2m:sch": {"rn": "more", "se": {"sce": [HALF]}}});
    assert_eq!(bench.create(Some(LIGHT1), SUB, 18, more.clone()).code, 5207);
    assert_eq!(bench.create(Some(LIGHT1), STATE, 18, more.clone()).code, 4108);
    assert_eq!(bench.create(Some(LIGHT2), SUB, 18, more).code, 4103);
    let times = "/cse/light1/state/sub/times";
    for (bad, code) in [
        (json!({"se": {"sce": []}}), 4000),
        (json!({"se": {"sce": ["x"]}}), 4000),
        (json!({"se": null}), 4000),
        (json!({"nco": true}), 5001),
    ] {
        let reply = bench.update(LIGHT1, times, json!({ "m2m:sch": bad }));
        assert_eq!(reply.code, code, "{bad}: {}", reply.why());
    }
    let shown = bench.retrieve(LIGHT1, times);
    assert_eq!(shown.attributes()["se"], json!({"sce": [HALF]}));
    assert_eq!(bench.retrieve(LIGHT2, times).code, 4103);
    assert_eq!(bench.delete(LIGHT1, SUB).code, 2002);
    assert_eq!(bench.retrieve(LIGHT1, times).code, 4004);
    bench.cse().store().assert_consistent();
}

#[test]
fn only_latest_event_is_sent() {
    let mut bench = Bench::with_lights();
    let sub = json!({"rn": "sub", "nu": ["http://a.b/"], "enc": {"net": [3]}, "nct": 1, "ln": true,
        "rl": {"mnn": 1, "tww": "PT10S"}});
    assert_eq!(agree(&bench, subscribe(&bench, LIGHT1, STATE, sub)).code, 2001);
    assert_eq!(put(&bench, 1), one(1, Some(4)));
    assert!(put(&bench, 2).is_empty() && put(&bench, 3).is_empty());
    bench.pass(10);
    assert_eq!(due(&bench), one(3, Some(4)));
    bench.pass(10);
    assert!(due(&bench).is_empty());
    // The latest one of a batch.
    let batch = json!({"m2m:sub": {"rl": null, "bn": {"num": 3}}});
    assert_eq!(bench.update(LIGHT1, SUB, batch).code, 2004);
    assert!(put(&bench, 4).is_empty() && put(&bench, 5).is_empty());
    assert_eq!(put(&bench, 6), one(6, Some(4)));
    bench.cse().store().assert_consistent();
}

#[test]
fn former_events_are_reported_to_new_subscription() {
    let bench = Bench::with_lights();
    (1..=3).for_each(|n| drop(put(&bench, n)));
    let subscribe = |sub: Value| {
        let enc = json!({"net": [3], "chty": [4]});
        let mut all = json!({"nu": ["http://a.b/"], "enc": enc, "nct": 1});
        all.as_object_mut().unwrap().extend(sub.as_object().unwrap().clone());
        agree(&bench, subscribe(&bench, LIGHT1, STATE, all))
    };
    let reply = subscribe(json!({"psn": 2}));
    assert_eq!((reply.code, &reply.attributes()["psn"]), (2001, &json!(2)));
    assert_eq!(sent(&reply.notifications), [one(2, None), one(3, None)].concat());
    let reply = subscribe(json!({"psn": 16}));
    assert_eq!(sent(&reply.notifications).len(), 3);
    // The counter ends the subscription.
    let reply = subscribe(json!({"rn": "short", "psn": 16, "exc": 1}));
    assert_eq!((reply.code, sent(&reply.notifications)), (2001, one(1, None)));
    assert_eq!(bench.retrieve(LIGHT1, "/cse/light1/state/short").code, 4004);
    // Updates have no former events.
    let reply = subscribe(json!({"psn": 2, "enc": {"net": [1]}}));
    assert_eq!((reply.code, reply.notifications.len()), (2001, 0));
    bench.cse().store().assert_consistent();
}
