use std::time::Duration;

use bytes::Bytes;
use saegis_cse::{Destination, NamedBy};

use super::*;

fn notification(content: &str) -> Notification {
    Notification {
        to: Destination::Connection("Ca".into()),
        named_by: NamedBy::Ae { stem: "Ca".into(), registrant: None },
        about: "/c/sub".into(),
        from: "/c".into(),
        request_id: "r".into(),
        release: "3".into(),
        category: None,
        receipt: Default::default(),
        content: Bytes::copy_from_slice(content.as_bytes()),
    }
}

const RETENTION: Duration = Duration::from_secs(300);

/// Has a notification wait. Returns whether there is room.
fn put(
    waiting: &mut Waiting,
    who: (&CredentialId, &CredentialId),
    ae: &str,
    notification: Notification,
) -> bool {
    let (until, is_stored) = (Instant::now() + RETENTION, waiting.next.is_multiple_of(2));
    waiting.put(who, Waits { ae: ae.into(), notification, until, is_stored }).is_some()
}

fn credential(name: &str) -> CredentialId {
    CredentialId::parse(&format!("12-{name}@b.c")).unwrap()
}

/// Returns content with which a notification for `Ca` or `Cb` counts for this many bytes.
fn content_of(bytes: usize) -> String {
    "x".repeat(bytes - size("Ca", &notification(&"x".repeat(MIN_SIZE))) + MIN_SIZE)
}

fn contents(waiting: &Waiting, credential: &CredentialId) -> Vec<String> {
    let entries = waiting.queues.get(credential).into_iter().flatten();
    entries.map(|e| String::from_utf8_lossy(&e.waits.notification.content).into_owned()).collect()
}

#[test]
fn ae_that_falls_behind_loses_oldest() {
    let a = credential("a");
    let mut waiting = Waiting::default();
    for n in 0..MAX_PER_AE + 5 {
        assert!(put(&mut waiting, (&a, &a), "Ca", notification(&n.to_string())));
    }
    assert_eq!(contents(&waiting, &a).len(), MAX_PER_AE);
    let first = waiting.first_after(&a, 0).unwrap();
    assert_eq!(first.waits.notification.content, "5");
    assert_eq!(waiting.first_after(&a, first.number).unwrap().waits.notification.content, "6");
    waiting.remove(&a, first.number);
    waiting.remove(&a, first.number);
    assert_eq!(contents(&waiting, &a).len(), MAX_PER_AE - 1);
    let large = content_of(MAX_BYTES_PER_AE);
    assert!(put(&mut waiting, (&a, &a), "Ca", notification(&large)));
    assert_eq!(contents(&waiting, &a), [large.as_str()]);
    assert!(!put(&mut waiting, (&a, &a), "Ca", notification(&format!("{large}x"))));
    // Every second one is on disk, and is removed there as well.
    let removed = waiting.take_removed();
    assert_eq!((removed.len(), removed[0], removed[52]), (53, 1, 105));
    waiting.expire(Instant::now());
    assert_eq!(waiting.sizes.total(), MAX_BYTES_PER_AE);
    waiting.expire(Instant::now() + RETENTION);
    assert!(waiting.take_removed().is_empty());
    assert_eq!((waiting.sizes.total(), waiting.queues.len(), waiting.of_cause.len()), (0, 0, 0));
}

#[test]
fn cause_displaces_its_own_notifications_first() {
    let (ae, good, evil) = (credential("ae"), credential("good"), credential("evil"));
    let mut waiting = Waiting::default();
    assert!(put(&mut waiting, (&ae, &good), "Ca", notification("first")));
    for n in 0..3 * MAX_PER_AE {
        assert!(put(&mut waiting, (&ae, &evil), "Ca", notification(&n.to_string())));
    }
    assert!(put(&mut waiting, (&ae, &good), "Ca", notification("last")));
    let all = contents(&waiting, &ae);
    assert_eq!(all.len(), MAX_PER_AE);
    assert!(all.contains(&"first".into()) && all.contains(&"last".into()), "{all:?}");
    let large = content_of(MAX_BYTES_PER_AE / 2);
    for _ in 0..5 {
        assert!(put(&mut waiting, (&ae, &evil), "Ca", notification(&large)));
    }
    assert_eq!(contents(&waiting, &ae)[..2], ["first", "last"]);
}

#[test]
fn large_notification_displaces_none_of_others() {
    let (ae, good, evil) = (credential("ae"), credential("good"), credential("evil"));
    let mut waiting = Waiting::default();
    let content = content_of(MAX_BYTES_PER_AE / 4);
    assert!(put(&mut waiting, (&ae, &good), "Ca", notification(&content)));
    assert!(put(&mut waiting, (&ae, &good), "Ca", notification("good")));
    assert!(!put(&mut waiting, (&ae, &evil), "Ca", notification(&content_of(MAX_BYTES_PER_AE))));
    assert_eq!(contents(&waiting, &ae), [content.as_str(), "good"]);
    // The limit is one of bytes, also where the number is at its maximum.
    for n in 0..3 * MAX_PER_AE {
        assert!(put(&mut waiting, (&ae, &evil), "Ca", notification(&n.to_string())));
    }
    let all = contents(&waiting, &ae);
    assert_eq!(all[..2], [content.as_str(), "good"]);
    assert!(all.len() <= MAX_PER_AE);
}

#[test]
fn largest_queue_makes_room_for_others() {
    let good = credential("good");
    let large = content_of(MAX_BYTES_PER_AE);
    let mut waiting = Waiting::default();
    assert!(put(&mut waiting, (&good, &good), "Ca", notification("good")));
    // Each AE causes its own notifications.
    for n in 0..2 * MAX_BYTES / MAX_BYTES_PER_AE {
        let evil = credential(&format!("e{n}"));
        assert!(put(&mut waiting, (&evil, &evil), "Cb", notification(&large)));
        assert!(waiting.sizes.total() <= MAX_BYTES);
    }
    assert!(put(&mut waiting, (&good, &good), "Ca", notification("better")));
    assert_eq!(contents(&waiting, &good), ["good", "better"]);
    // One credential causes those of many AEs.
    let mut waiting = Waiting::default();
    let evil = credential("evil");
    for n in 0..2 * MAX_BYTES / MAX_BYTES_PER_AE {
        let ae = credential(&format!("a{n}"));
        assert!(put(&mut waiting, (&ae, &good), "Cb", notification("good")));
        assert!(put(&mut waiting, (&ae, &evil), "Cb", notification(&large[MIN_SIZE..])));
        assert_eq!(contents(&waiting, &ae)[0], "good");
    }
    assert!(waiting.of_cause[&evil].total() <= MAX_BYTES_PER_CAUSE);
    assert!(waiting.sizes.total() < MAX_BYTES_PER_CAUSE + (1 << 20));
}

#[test]
fn sums_are_right_after_much_is_displaced() {
    let mut waiting = Waiting::default();
    let evil = credential("evil");
    let aes: Vec<_> = (0..MAX_BYTES / MIN_SIZE).map(|n| credential(&format!("a{n}"))).collect();
    for ae in &aes {
        assert!(put(&mut waiting, (ae, &evil), "Cb", notification("small")));
    }
    let large = content_of(MAX_BYTES_PER_AE);
    assert!(put(&mut waiting, (&evil, &evil), "Ca", notification(&large)));
    assert!(waiting.of_cause[&evil].total() <= MAX_BYTES_PER_CAUSE);
    let all = waiting.queues.values().flatten();
    let bytes: usize = all.map(|entry| entry.size).sum();
    assert_eq!(bytes, waiting.sizes.total());
    assert_eq!(waiting.ends.len(), waiting.queues.values().map(VecDeque::len).sum::<usize>());
}

#[test]
fn losses_are_summed_by_ae_and_reason() {
    let a = credential("a");
    let mut waiting = Waiting::default();
    for n in 0..MAX_PER_AE + 5 {
        put(&mut waiting, (&a, &a), "Ca", notification(&n.to_string()));
    }
    put(&mut waiting, (&a, &a), "Ca", notification(&"x".repeat(MAX_BYTES_PER_AE)));
    let first = waiting.first_after(&a, 0).unwrap().number;
    waiting.remove(&a, first);
    put(&mut waiting, (&a, &a), "Cb", notification("of another AE of the credential"));
    waiting.deregister(&a, "Cb");
    waiting.expire(Instant::now() + RETENTION);
    let sums: Vec<_> = waiting.take_losses().into_iter().collect();
    let expected = [
        ("Ca", Loss::TooLarge, 1),
        ("Ca", Loss::Displaced, 5),
        ("Ca", Loss::Expired, MAX_PER_AE - 1),
        ("Cb", Loss::Deregistered, 1),
    ];
    assert_eq!(sums, expected.map(|(ae, loss, count)| ((ae.to_string(), loss), count)));
    for n in 0..1000 {
        put(&mut waiting, (&a, &a), &format!("C{n}"), notification(&"x".repeat(MAX_BYTES_PER_AE)));
    }
    let sums = waiting.take_losses();
    assert_eq!((sums.len(), sums.values().sum::<usize>()), (17, 1000));
    assert!(waiting.take_losses().is_empty());
}
