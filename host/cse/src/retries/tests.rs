//! The order, the limits and the delays of notifications that are sent again.

use super::*;

fn key(target: &str) -> TargetKey {
    ("sub".into(), target.into())
}

fn numbers(taken: Vec<(TargetKey, u64)>) -> Vec<u64> {
    taken.into_iter().map(|(_, number)| number).collect()
}

#[test]
fn failed_target_gets_oldest_first_after_its_delay() {
    let retries = Retries::default();
    let a = key("a");
    let begin = |number| retries.begin((&a, None), number, (10, 100));
    assert!(begin(0) && begin(1));
    retries.fail(&a, 0);
    retries.fail(&a, 1);
    assert!(!begin(2), "it waits for the former ones");
    assert!(retries.begin((&key("b"), None), 3, (10, 100)), "another target has its own order");
    assert!(retries.take_due(100, 9).is_empty());
    assert_eq!(numbers(retries.take_due(101, 9)), [0]);
    assert!(retries.take_due(200, 9).is_empty(), "it is being sent");
    retries.fail(&a, 0);
    assert!(retries.take_due(200, 9).is_empty());
    assert!(retries.take_due(201, 9).is_empty());
    assert_eq!(numbers(retries.take_due(202, 9)), [0]);
    retries.end(&a, 0);
    assert_eq!(numbers(retries.take_due(202, 9)), [1, 2]);
    retries.end(&a, 1);
    retries.end(&a, 2);
    assert!(begin(4));
    assert_eq!(retries.take_ended(2), [("sub".into(), 0), ("sub".into(), 1)]);
    assert_eq!(retries.take_ended(2), [("sub".into(), 2)]);
}

#[test]
fn delay_doubles_up_to_its_maximum() {
    let delay = |failures| Target { failures, ..Target::default() }.delay();
    assert_eq!([0, 1, 2, 3, 9, 10, u32::MAX].map(delay), [0, 1, 2, 4, 256, 300, 300]);
}

#[test]
fn notifications_are_bounded_by_number_size_and_age() {
    let retries = Retries::default();
    for number in 0..=MAX_PER_TARGET {
        retries.restore((&key("a"), None), u64::try_from(number).unwrap(), (1, 0));
    }
    assert_eq!(retries.take_ended(9), [("sub".into(), 0)]);
    assert_eq!(retries.next(), 101);
    retries.restore((&key("a"), None), 200, (MAX_BYTES_PER_TARGET - OVERHEAD, 0));
    assert_eq!(retries.take_ended(usize::MAX).len(), MAX_PER_TARGET);
    for number in 0..MAX_BYTES / MAX_BYTES_PER_TARGET {
        let size = MAX_BYTES_PER_TARGET - OVERHEAD;
        let number = u64::try_from(number).unwrap();
        retries.restore((&key(&number.to_string()), None), 300 + number, (size, 0));
    }
    assert_eq!(retries.take_ended(9).len(), 1);
    assert_eq!(retries.states().shares.bytes(), MAX_BYTES);
    assert!(retries.take_due(MAX_AGE - 1, 1).len() == 1);
    assert!(retries.take_due(MAX_AGE, 9).is_empty());
    assert_eq!(retries.take_ended(usize::MAX).len(), MAX_BYTES / MAX_BYTES_PER_TARGET - 1);
    retries.take_due(MAX_AGE, 9);
    assert_eq!(retries.states().targets.len(), 1, "the one that is being sent");
}

/// Returns states in which the notification 0 is sent to a target that has failed.
fn probing() -> Retries {
    let retries = Retries::default();
    assert!(retries.begin((&key("a"), None), 0, (10, 100)));
    retries.fail(&key("a"), 0);
    assert!(retries.take_due(100, 9).is_empty());
    assert_eq!(numbers(retries.take_due(101, 9)), [0]);
    retries
}

fn add_more(retries: &Retries) {
    for number in 1..=u64::try_from(MAX_PER_TARGET).unwrap() {
        assert!(!retries.begin((&key("a"), None), number, (10, 101)), "{number}");
    }
    assert_eq!(retries.take_ended(9), [("sub".into(), 0)], "the one that is being sent");
}

#[test]
fn displaced_probe_that_fails_is_followed() {
    let retries = probing();
    add_more(&retries);
    assert!(retries.take_due(110, 9).is_empty(), "it is being sent");
    retries.fail(&key("a"), 0);
    assert!(retries.take_due(110, 9).is_empty());
    assert!(retries.take_due(111, 9).is_empty(), "the failure counts");
    assert_eq!(numbers(retries.take_due(112, 9)), [1]);
}

#[test]
fn displaced_probe_that_arrives_is_followed() {
    for report in [Retries::end, Retries::hold] {
        let retries = probing();
        add_more(&retries);
        report(&retries, &key("a"), 0);
        assert_eq!(numbers(retries.take_due(110, 2)), [1, 2]);
    }
}

#[test]
fn displaced_probe_without_outcome_is_followed() {
    let retries = probing();
    add_more(&retries);
    assert!(retries.take_due(101 + MIN_UNKNOWN - 1, 9).is_empty());
    assert!(retries.take_due(101 + MIN_UNKNOWN, 9).is_empty());
    assert_eq!(numbers(retries.take_due(102 + MIN_UNKNOWN, 9)), [1]);
}

#[test]
fn outcome_is_awaited_as_long_as_sender_takes() {
    let retries = Retries::default();
    retries.set_outcome_timeout(Duration::from_secs(2 * MIN_UNKNOWN));
    assert!(retries.begin((&key("a"), None), 0, (10, 100)));
    assert!(retries.take_due(100 + 2 * MIN_UNKNOWN, 9).is_empty());
    assert_eq!(numbers(retries.take_due(101 + 2 * MIN_UNKNOWN, 9)), [0]);
}

#[test]
fn owner_with_many_targets_displaces_only_its_own() {
    let retries = Retries::default();
    let large = MAX_BYTES_PER_TARGET - OVERHEAD;
    assert!(retries.begin((&key("b"), Some("Cb")), 0, (large, 0)));
    for number in 1..=u64::try_from(2 * MAX_BYTES / (64 << 10)).unwrap() {
        let target = key(&number.to_string());
        assert!(retries.begin((&target, Some("Ca")), number, ((64 << 10) - OVERHEAD, 0)));
    }
    let ended = retries.take_ended(usize::MAX);
    assert!(!ended.contains(&("sub".into(), 0)), "another owner has fewer bytes");
    assert_eq!(ended[..2], [("sub".into(), 1), ("sub".into(), 2)]);
    assert_eq!(retries.states().shares.bytes(), MAX_BYTES);
    assert_eq!(retries.states().targets.len(), 1 + (MAX_BYTES - (256 << 10)) / (64 << 10));
}
