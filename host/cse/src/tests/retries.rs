//! Notifications that are sent again.

use serde_json::{Value, json};

use crate::budget::RequestBudget;
use crate::notification::outbox::{MAX_NOTIFICATIONS, cut};
use crate::notification::retry;
use crate::receipts::Receipt;
use crate::store::{StoreError, Writer};
use crate::testing::{Bench, LIGHT1, LIGHT2, agree, request, subscribe};
use crate::{Handled, Notification};
use saegis_onem2m::primitive::Operation;

const STATE: &str = "/cse/light1/state";

/// Subscribes the target `http://a.b/`, and returns the settings.
fn subscribed() -> Bench {
    let bench = Bench::with_lights();
    let sub = json!({"rn": "sub", "nu": ["http://a.b/"], "enc": {"net": [3]}});
    let handled = subscribe(&bench, LIGHT1, STATE, sub);
    assert_eq!(agree(&bench, handled).code, 2001);
    bench
}

/// Creates an instance, and returns the notifications that are to be sent now.
fn put(bench: &Bench, value: u64) -> Vec<Notification> {
    let content = json!({"m2m:cin": {"con": value}});
    let mut create = request(Operation::Create, STATE, Some(LIGHT1), Some(content));
    create.resource_type = Some(4);
    match bench.handle(&create) {
        Handled::Done(answer) => {
            assert!(answer.response.rsc.is_success());
            answer.notifications
        }
        other => panic!("it is not answered: {other:?}"),
    }
}

fn due(bench: &Bench) -> Vec<Notification> {
    let due = bench.cse().due_notifications(bench.time()).unwrap();
    due.into_iter().flat_map(|due| due.notifications).collect()
}

fn values(notifications: &[Notification]) -> Vec<u64> {
    let value = |notification: &Notification| {
        let content: Value = serde_json::from_slice(&notification.content).unwrap();
        content["m2m:sgn"]["nev"]["rep"]["m2m:cin"]["con"].as_u64().unwrap()
    };
    notifications.iter().map(value).collect()
}

/// Returns the number of stored notifications.
fn stored(bench: &Bench) -> usize {
    while retry::settle(bench.cse().state()).unwrap() {}
    bench.cse().store().assert_consistent();
    bench.cse().store().all_retries().unwrap().len()
}

#[test]
fn unreceived_notification_is_stored() {
    let mut bench = subscribed();
    let first = put(&bench, 1);
    assert_eq!((values(&first), stored(&bench)), (vec![1], 1));
    first[0].receipt.failed();
    assert_eq!((values(&put(&bench, 2)), stored(&bench)), (vec![], 2));
    assert!(due(&bench).is_empty());
    bench.pass(1);
    let again = due(&bench);
    assert_eq!(values(&again), [1]);
    assert_ne!(again[0].request_id, first[0].request_id);
    again[0].receipt.responded();
    let rest = due(&bench);
    assert_eq!(values(&rest), [2]);
    rest[0].receipt.responded();
    assert_eq!(stored(&bench), 0);
    // An unknown outcome is a failure after a while.
    let _unknown = put(&bench, 3);
    bench.pass(599);
    assert!(due(&bench).is_empty());
    bench.pass(1);
    assert_eq!(values(&due(&bench)), [3]);
    // It is sent for a day.
    bench.pass(24 * 60 * 60);
    assert!(due(&bench).is_empty());
    assert_eq!(stored(&bench), 0);
}

#[test]
fn unreceived_notifications_survive_restart() {
    let bench = subscribed();
    drop((put(&bench, 1), put(&bench, 2)));
    let bench = bench.reopen();
    let first = due(&bench);
    assert_eq!(values(&first), [1]);
    assert!(due(&bench).is_empty());
    assert!(put(&bench, 3).is_empty());
    let bench = bench.reopen();
    let first = due(&bench);
    assert_eq!(values(&first), [1]);
    first[0].receipt.responded();
    assert_eq!(values(&due(&bench)), [2, 3]);
}

#[test]
fn repeated_notifications_end_with_subscription_and_targets() {
    type Change = fn(&Bench);
    let changes: [(&str, Change); 4] = [
        ("the subscription", |bench| {
            assert_eq!(bench.delete(LIGHT1, "/cse/light1/state/sub").code, 2002);
        }),
        ("the resource", |bench| assert_eq!(bench.delete(LIGHT1, STATE).code, 2002)),
        ("the registration", |bench| {
            assert_eq!(bench.delete(LIGHT1, "/cse/light1").code, 2002);
        }),
        ("the target", |bench| {
            let change = json!({"m2m:sub": {"nu": [LIGHT1]}});
            assert_eq!(bench.update(LIGHT1, "/cse/light1/state/sub", change).code, 2004);
        }),
    ];
    for (what, change) in changes {
        let mut bench = subscribed();
        put(&bench, 1)[0].receipt.failed();
        assert!(due(&bench).is_empty());
        change(&bench);
        bench.pass(1);
        assert!(due(&bench).is_empty(), "{what}");
        while bench.sweep() > 0 {}
        assert_eq!(stored(&bench), 0, "{what}");
    }
}

#[test]
fn repeated_notification_ends_with_permission() {
    let mut bench = Bench::with_lights();
    let acp =
        |who: &[&str]| json!({"acr": [{"acor": who, "acop": 63}, {"acor": [LIGHT1], "acop": 63}]});
    let policy = json!({"m2m:acp": {"rn": "acp", "pv": acp(&[LIGHT2]), "pvs": acp(&[LIGHT1])}});
    assert_eq!(bench.create(Some(LIGHT1), "/cse/light1", 1, policy).code, 2001);
    let change = json!({"m2m:cnt": {"acpi": ["cse/light1/acp"]}});
    assert_eq!(bench.update(LIGHT1, STATE, change).code, 2004);
    let sub = json!({"rn": "sub", "nu": ["http://a.b/"], "enc": {"net": [3]}});
    let handled = subscribe(&bench, LIGHT2, STATE, sub);
    assert_eq!(agree(&bench, handled).code, 2001);
    put(&bench, 1)[0].receipt.failed();
    assert!(due(&bench).is_empty());
    let change = json!({"m2m:acp": {"pv": acp(&[LIGHT1])}});
    assert_eq!(bench.update(LIGHT1, "/cse/light1/acp", change).code, 2004);
    bench.pass(1);
    assert!(due(&bench).is_empty());
    assert_eq!(stored(&bench), 0);
}

/// Subscribes another target, with policies.
fn subscribe_also(bench: &Bench, name: &str, further: Value) {
    let mut sub = json!({"rn": name, "nu": [format!("http://{name}/")], "enc": {"net": [3]}});
    sub.as_object_mut().unwrap().extend(further.as_object().unwrap().clone());
    let handled = subscribe(bench, LIGHT1, STATE, sub);
    assert_eq!(agree(bench, handled).code, 2001);
}

/// Waits until the store can be written again after a failure.
fn recover(bench: &Bench) {
    let is_writable = || {
        let noop = |_: &mut Writer<'_>| Ok::<_, StoreError>(());
        bench.cse().store().write(&RequestBudget::unlimited(), noop).is_ok()
    };
    let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !is_writable() {
        assert!(std::time::Instant::now() < until, "the store is not writable");
        std::thread::yield_now();
    }
}

fn destinations(notifications: &[Notification]) -> Vec<String> {
    notifications.iter().map(|notification| notification.to.to_string()).collect()
}

fn change_store(bench: &Bench, change: impl FnOnce(&mut Writer<'_>) -> Result<(), StoreError>) {
    bench.cse().store().write(&RequestBudget::unlimited(), change).unwrap();
}

#[test]
fn received_notification_is_removed_after_failure() {
    let bench = subscribed();
    put(&bench, 1)[0].receipt.responded();
    bench.cse().store().suspect();
    assert!(retry::settle(bench.cse().state()).is_err());
    recover(&bench);
    assert_eq!(stored(&bench), 0);
}

#[test]
fn counted_response_is_stored_after_failure() {
    let bench = Bench::with_lights();
    subscribe_also(&bench, "sub", json!({"nse": true}));
    put(&bench, 1)[0].receipt.responded();
    bench.cse().store().suspect();
    assert!(bench.cse().due_notifications(bench.time()).is_err());
    recover(&bench);
    assert!(due(&bench).is_empty());
    let shown = bench.retrieve(LIGHT1, "/cse/light1/state/sub");
    assert_eq!(shown.attributes()["nsi"][0]["rsr"], 1);
}

#[test]
fn attempt_is_reported_after_failure() {
    let bench = Bench::with_lights();
    subscribe_also(&bench, "sub", json!({"enc": {"om": [{"or": LIGHT2}]}}));
    assert_eq!(bench.retrieve(LIGHT2, STATE).code, 4103);
    bench.cse().store().suspect();
    assert!(bench.cse().due_notifications(bench.time()).is_err());
    recover(&bench);
    assert_eq!(destinations(&due(&bench)), ["http://sub/"]);
}

#[test]
fn attempt_at_damaged_subscription_hides_no_other() {
    let bench = Bench::with_lights();
    for name in ["sub1", "sub2"] {
        subscribe_also(&bench, name, json!({"enc": {"om": [{"or": LIGHT2}]}}));
    }
    let first = bench.retrieve(LIGHT1, "/cse/light1/state/sub1").attributes()["ri"].clone();
    assert_eq!(bench.retrieve(LIGHT2, STATE).code, 4103);
    change_store(&bench, |writer| writer.damage(first.as_str().unwrap()));
    assert!(bench.cse().due_notifications(bench.time()).is_err());
    assert_eq!(destinations(&due(&bench)), ["http://sub2/"]);
}

#[test]
fn failure_of_batch_affects_no_repetition() {
    let mut bench = subscribed();
    subscribe_also(&bench, "batch", json!({"bn": {"num": 9, "dur": "PT1S"}}));
    put(&bench, 1)[0].receipt.failed();
    assert!(due(&bench).is_empty());
    bench.pass(1);
    bench.cse().store().suspect();
    let again = due(&bench);
    assert_eq!(values(&again), [1]);
    again[0].receipt.responded();
    recover(&bench);
    assert_eq!(destinations(&due(&bench)), ["http://batch/"]);
}

#[test]
fn damaged_notification_affects_no_other() {
    let mut bench = subscribed();
    subscribe_also(&bench, "sub2", json!({}));
    put(&bench, 1).iter().for_each(|notification| notification.receipt.failed());
    assert!(due(&bench).is_empty());
    bench.pass(1);
    let all = bench.cse().store().all_retries().unwrap();
    let (ri, number, ..) = all.iter().find(|of| of.3.target == "http://a.b/").unwrap();
    change_store(&bench, |writer| writer.damage_retry(ri, *number));
    let again = due(&bench);
    assert_eq!(destinations(&again), ["http://sub2/"]);
    again[0].receipt.responded();
    assert_eq!(stored(&bench), 0);
    assert!(due(&bench).is_empty());
}

#[test]
fn damaged_subscription_affects_no_other() {
    let mut bench = Bench::with_lights();
    for name in ["sub1", "sub2"] {
        subscribe_also(&bench, name, json!({"bn": {"num": 9, "dur": "PT1S"}}));
    }
    assert!(put(&bench, 1).is_empty());
    let first = bench.retrieve(LIGHT1, "/cse/light1/state/sub1").attributes()["ri"].clone();
    change_store(&bench, |writer| writer.damage(first.as_str().unwrap()));
    bench.pass(1);
    let mut all = Vec::new();
    for _ in 0..2 {
        let due = bench.cse().due_notifications(bench.time()).unwrap_or_default();
        all.extend(due.into_iter().flat_map(|due| due.notifications));
    }
    assert_eq!(destinations(&all), ["http://sub2/"]);
}

#[test]
fn damaged_subscription_frees_its_owners_quota() {
    let mut bench = subscribed();
    put(&bench, 1).iter().for_each(|notification| notification.receipt.failed());
    assert!(due(&bench).is_empty());
    let all = bench.cse().store().all_retries().unwrap();
    let (ri, _, size, _) = &all[0];
    change_store(&bench, |writer| writer.damage(ri));
    let used = |bench: &Bench| {
        let usage = |writer: &mut Writer<'_>| {
            Ok::<_, StoreError>([writer.usage(LIGHT1)?.bytes, writer.usage("")?.bytes])
        };
        bench.cse().store().write(&RequestBudget::unlimited(), usage).unwrap()
    };
    let before = used(&bench);
    bench.pass(1);
    assert!(due(&bench).is_empty());
    while retry::settle(bench.cse().state()).unwrap() {}
    assert!(bench.cse().store().all_retries().unwrap().is_empty());
    assert_eq!(used(&bench), [before[0] - u64::try_from(*size).unwrap(), before[1]]);
}

#[test]
fn dropped_notification_is_sent_again() {
    let mut bench = subscribed();
    drop(put(&bench, 1));
    assert!(due(&bench).is_empty());
    bench.pass(1);
    assert_eq!(values(&due(&bench)), [1]);
}

#[test]
fn excess_notification_of_request_is_sent_later() {
    let mut bench = subscribed();
    let own = put(&bench, 1);
    let other = Notification { receipt: Receipt::default(), ..own[0].clone() };
    let mut all = vec![other; MAX_NOTIFICATIONS];
    all.extend(own);
    cut(&mut all);
    assert_eq!(all.len(), MAX_NOTIFICATIONS);
    assert!(due(&bench).is_empty());
    bench.pass(1);
    assert_eq!(values(&due(&bench)), [1]);
}
