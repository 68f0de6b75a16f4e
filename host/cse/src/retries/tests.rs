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
    assert_eq!(retries.states().targets.len(), 1 + MAX_BYTES / MAX_BYTES_PER_TARGET);
    retries.take_due(MAX_AGE + BACKOFF_RETENTION, 9);
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

/// Lets notifications for several targets of an owner fail, with these numbers.
fn failed(retries: &Retries, owner: &str, numbers: std::ops::Range<u64>) {
    for number in numbers {
        let target = key(&format!("{owner}-{number}"));
        assert!(retries.begin((&target, Some(owner)), number, (10, 100)));
        retries.fail(&target, number);
    }
}

#[test]
fn owners_take_turns() {
    let retries = Retries::default();
    failed(&retries, "Ca", 0..90);
    failed(&retries, "Cb", 90..92);
    failed(&retries, "Cc", 92..93);
    assert!(retries.take_due(100, 9).is_empty());
    let mut taken = numbers(retries.take_due(101, 6));
    taken.sort_unstable();
    assert_eq!(taken, [0, 1, 2, 90, 91, 92]);
    assert_eq!(numbers(retries.take_due(101, 3)), [3, 4, 5]);
    // The next turn is that of the next owner.
    failed(&retries, "Cb", 93..95);
    failed(&retries, "Cc", 95..97);
    assert!(retries.take_due(101, 0).is_empty());
    assert_eq!(numbers(retries.take_due(102, 1)), [93]);
    assert_eq!(numbers(retries.take_due(102, 1)), [95]);
    assert_eq!(numbers(retries.take_due(102, 1)), [6]);
}

#[test]
fn targets_of_owner_take_turns() {
    let retries = Retries::default();
    let begin = |target: &str, number| {
        retries.begin((&key(target), Some("Ca")), number, (10, 100));
    };
    // Both have several that wait for the first one.
    for (target, number) in [("a", 0), ("b", 1)] {
        begin(target, number);
        retries.fail(&key(target), number);
        (0..9).for_each(|more| begin(target, 10 + 10 * number + more));
    }
    retries.take_due(100, 9);
    assert_eq!(numbers(retries.take_due(101, 9)).len(), 2, "the oldest of each");
    retries.end(&key("a"), 0);
    retries.end(&key("b"), 1);
    let taken = retries.take_due(101, 5);
    let of_a = taken.iter().filter(|(target, _)| *target == key("a")).count();
    assert_eq!((of_a, taken.len()), (3, 5));
    // Those of one target are together, in their order.
    let of_b: Vec<_> = taken.iter().filter(|(target, _)| *target == key("b")).collect();
    assert_eq!(of_b, [&(key("b"), 20), &(key("b"), 21)]);
    assert!(taken.windows(2).filter(|pair| pair[0].0 != pair[1].0).count() == 1);
}

#[test]
fn delay_outlasts_the_last_notification() {
    let retries = Retries::default();
    assert!(retries.begin((&key("a"), None), 0, (10, 0)));
    retries.fail(&key("a"), 0);
    for (at, is_due) in [(9, false), (8, true), (8, false), (6, true), (6, false), (2, true)] {
        assert_eq!(!retries.take_due(MAX_AGE - at, 9).is_empty(), is_due, "{at}");
        if is_due {
            retries.fail(&key("a"), 0);
        }
    }
    assert!(retries.take_due(MAX_AGE - 2, 9).is_empty());
    assert!(retries.take_due(MAX_AGE, 9).is_empty(), "it is too old");
    assert_eq!(retries.take_ended(9).len(), 1);
    // The target has not responded since, so the next notification is not sent at once.
    assert!(!retries.begin((&key("a"), None), 1, (10, MAX_AGE)));
    assert!(retries.take_due(MAX_AGE + 5, 9).is_empty());
    assert_eq!(numbers(retries.take_due(MAX_AGE + 6, 9)), [1]);
    retries.end(&key("a"), 1);
    assert!(retries.states().targets.is_empty());
    // The delay is forgotten after a while.
    retries.restore((&key("a"), None), 2, (10, 0));
    assert!(retries.take_due(MAX_AGE, 9).is_empty());
    retries.take_due(MAX_AGE + BACKOFF_RETENTION - 1, 9);
    assert_eq!(retries.states().targets.len(), 1);
    retries.take_due(MAX_AGE + BACKOFF_RETENTION, 9);
    assert!(retries.states().targets.is_empty());
    assert!(retries.begin((&key("a"), None), 3, (10, MAX_AGE)));
}

#[test]
fn retained_delays_are_bounded() {
    let retries = Retries::default();
    for number in 0..=MAX_BACKOFFS {
        let target = key(&number.to_string());
        retries.restore((&target, None), u64::try_from(number).unwrap(), (10, 0));
    }
    assert!(retries.take_due(MAX_AGE, 9).is_empty());
    assert_eq!(retries.states().targets.len(), MAX_BACKOFFS);
}
