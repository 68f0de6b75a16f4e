//! Notifications that wait for the connections of their AEs, bounded in number, size and time.
//!
//! A notification counts for its AE and for the credential whose request caused it. The limit of one
//! AE is shared between these credentials, so that none can make the AE lose the notifications of
//! others. The limit of all AEs is shared between the AEs, so that none can use it up.

use std::collections::{HashMap, VecDeque};

use saegis_cse::Notification;
use saegis_onem2m::id::CredentialId;
use tokio::time::Instant;

/// Maximum number of bytes that wait for one AE.
const MAX_BYTES_PER_AE: usize = 256 << 10;

/// Maximum number of notifications that wait for one AE.
const MAX_PER_AE: usize = 100;

/// Minimum size that a notification counts for. With it, the limit of bytes includes the limit of
/// the number, and shares have one measure.
const MIN_SIZE: usize = MAX_BYTES_PER_AE / MAX_PER_AE;

/// Maximum number of bytes that one credential causes to wait.
const MAX_BYTES_PER_CAUSE: usize = 4 << 20;

/// Maximum number of bytes that wait for all AEs.
const MAX_BYTES: usize = 16 << 20;

/// Memory of a notification beside its content and its texts, in bytes.
const OVERHEAD: usize = 512;

/// Queues of notifications, by the credential of their AE.
#[derive(Default)]
pub(super) struct Waiting {
    queues: HashMap<CredentialId, Queue>,
    /// Bytes that each credential has caused.
    of_cause: HashMap<CredentialId, usize>,
    bytes: usize,
    next: u64,
    /// Numbers of those on disk that do not wait any more.
    removed: Vec<u64>,
}

#[derive(Default)]
struct Queue {
    /// The oldest is first.
    entries: VecDeque<Entry>,
    bytes: usize,
}

/// A notification that waits.
#[derive(Clone)]
pub(super) struct Entry {
    /// Position in the order of all notifications.
    pub(super) number: u64,
    cause: CredentialId,
    /// Bytes that it counts for.
    size: usize,
    pub(super) waits: Waits,
}

/// How a notification waits.
#[derive(Clone)]
pub(super) struct Waits {
    /// AE-ID-Stem of the AE.
    pub(super) ae: String,
    pub(super) notification: Notification,
    pub(super) until: Instant,
    /// Whether it is on disk as well.
    pub(super) is_stored: bool,
}

/// Returns the bytes that a notification counts for.
fn size(ae: &str, notification: &Notification) -> usize {
    let texts = [ae, &notification.about, &notification.from, &notification.request_id];
    let texts: usize = texts.iter().map(|text| text.len()).sum();
    (notification.content.len() + texts + OVERHEAD).max(MIN_SIZE)
}

impl Queue {
    /// Selects the entries that make room for `excess` bytes. The credential that has caused the
    /// most bytes, with those it adds, yields first, and its oldest entry first. Returns nothing if
    /// the one that adds has the most and no entry left to yield.
    fn victims(&self, added: Option<(&CredentialId, usize)>, excess: usize) -> Option<Vec<u64>> {
        let mut shares: HashMap<&CredentialId, usize> = added.into_iter().collect();
        for entry in &self.entries {
            *shares.entry(&entry.cause).or_default() += entry.size;
        }
        let (mut victims, mut freed) = (Vec::new(), 0);
        while freed < excess {
            let most = shares.values().copied().max()?;
            let has_most = |cause: &CredentialId| shares.get(cause) == Some(&most);
            let adding = added.map(|(cause, _)| cause).filter(|cause| has_most(cause));
            let yields = |entry: &&Entry| {
                let is_its = adding.map_or_else(|| has_most(&entry.cause), |c| entry.cause == *c);
                is_its && !victims.contains(&entry.number)
            };
            let victim = self.entries.iter().find(yields)?;
            freed += victim.size;
            victims.push(victim.number);
            if let Some(share) = shares.get_mut(&victim.cause) {
                *share -= victim.size;
            }
        }
        Some(victims)
    }
}

impl Waiting {
    /// Adds a notification that a request of `cause` has caused for the AE of a credential. Removes
    /// others if necessary. Returns its number, or `None` if there is no room: the notification
    /// exceeds the limit of an AE, or would displace notifications of credentials that have caused
    /// less.
    pub(super) fn put(
        &mut self,
        (credential, cause): (&CredentialId, &CredentialId),
        waits: Waits,
    ) -> Option<u64> {
        let size = size(&waits.ae, &waits.notification);
        if size > MAX_BYTES_PER_AE {
            return None;
        }
        let of_ae = self.bytes_of(credential) + size;
        if !self.displace(credential, Some((cause, size)), of_ae.saturating_sub(MAX_BYTES_PER_AE)) {
            return None;
        }
        while self.of_cause.get(cause).is_some_and(|bytes| bytes + size > MAX_BYTES_PER_CAUSE)
            && self.displace_of(cause)
        {}
        while self.bytes + size > MAX_BYTES {
            let others = self.queues.iter().filter(|(c, _)| *c != credential);
            let largest = others.max_by_key(|(_, queue)| queue.bytes);
            let largest = largest.filter(|(_, q)| q.bytes >= self.bytes_of(credential) + size);
            let is_displaced = match largest.map(|(c, _)| c.clone()) {
                Some(largest) => self.displace(&largest, None, 1),
                None => self.displace(credential, Some((cause, size)), 1),
            };
            if !is_displaced {
                return None;
            }
        }
        self.next += 1;
        self.bytes += size;
        *self.of_cause.entry(cause.clone()).or_default() += size;
        let queue = self.queues.entry(credential.clone()).or_default();
        queue.bytes += size;
        let (number, cause) = (self.next, cause.clone());
        queue.entries.push_back(Entry { number, cause, size, waits });
        Some(number)
    }

    /// Adds a notification that was on disk, with its number. They are added in their order.
    pub(super) fn restore(
        &mut self,
        number: u64,
        who: (&CredentialId, &CredentialId),
        waits: Waits,
    ) {
        self.next = number.saturating_sub(1);
        if self.put(who, waits).is_none() {
            self.removed.push(number);
        }
    }

    /// Returns the numbers of those on disk that do not wait any more.
    pub(super) fn take_removed(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.removed)
    }

    fn bytes_of(&self, credential: &CredentialId) -> usize {
        self.queues.get(credential).map_or(0, |queue| queue.bytes)
    }

    /// Makes room for `excess` bytes in a queue. Returns whether there is room.
    fn displace(
        &mut self,
        credential: &CredentialId,
        added: Option<(&CredentialId, usize)>,
        excess: usize,
    ) -> bool {
        if excess == 0 {
            return true;
        }
        let victims = self.queues.get(credential).and_then(|q| q.victims(added, excess));
        let Some(victims) = victims else { return false };
        victims.iter().for_each(|number| self.remove(credential, *number));
        true
    }

    /// Removes the oldest notification that a credential has caused, for the AE that has the most of
    /// them.
    fn displace_of(&mut self, cause: &CredentialId) -> bool {
        let bytes = |queue: &Queue| -> usize {
            queue.entries.iter().filter(|entry| entry.cause == *cause).map(|entry| entry.size).sum()
        };
        let most = self.queues.iter().max_by_key(|(_, queue)| bytes(queue));
        let at = most.and_then(|(credential, queue)| {
            let at = queue.entries.iter().position(|entry| entry.cause == *cause)?;
            Some((credential.clone(), at))
        });
        at.is_some_and(|(credential, at)| self.remove_at(&credential, at))
    }

    /// Removes the notifications that wait until then at most.
    pub(super) fn expire(&mut self, now: Instant) {
        let over = |queue: &Queue| queue.entries.iter().position(|entry| entry.waits.until <= now);
        let expired = self.queues.iter().filter(|(_, queue)| over(queue).is_some());
        for credential in expired.map(|(credential, _)| credential.clone()).collect::<Vec<_>>() {
            while let Some(at) = self.queues.get(&credential).and_then(over) {
                self.remove_at(&credential, at);
            }
        }
    }

    /// Returns the first notification after that number that waits for a credential.
    pub(super) fn first_after(&self, credential: &CredentialId, number: u64) -> Option<Entry> {
        let entries = &self.queues.get(credential)?.entries;
        entries.iter().find(|entry| entry.number > number).cloned()
    }

    /// Removes a notification, if it still waits.
    pub(super) fn remove(&mut self, credential: &CredentialId, number: u64) {
        let queue = self.queues.get(credential);
        if let Some(at) = queue.and_then(|q| q.entries.iter().position(|e| e.number == number)) {
            self.remove_at(credential, at);
        }
    }

    /// Removes an entry of a queue. Returns whether there is one.
    fn remove_at(&mut self, credential: &CredentialId, at: usize) -> bool {
        let Some(queue) = self.queues.get_mut(credential) else { return false };
        let Some(entry) = queue.entries.remove(at) else { return false };
        let size = entry.size;
        if entry.waits.is_stored {
            self.removed.push(entry.number);
        }
        queue.bytes -= size;
        self.bytes -= size;
        if queue.entries.is_empty() {
            self.queues.remove(credential);
        }
        if let Some(bytes) = self.of_cause.get_mut(&entry.cause) {
            *bytes -= size;
            if *bytes == 0 {
                self.of_cause.remove(&entry.cause);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
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
        let queue = waiting.queues.get(credential);
        let entries = queue.into_iter().flat_map(|queue| &queue.entries);
        entries
            .map(|e| String::from_utf8_lossy(&e.waits.notification.content).into_owned())
            .collect()
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
        assert_eq!(waiting.bytes, MAX_BYTES_PER_AE);
        waiting.expire(Instant::now() + RETENTION);
        assert!(waiting.take_removed().is_empty());
        assert_eq!((waiting.bytes, waiting.queues.len(), waiting.of_cause.len()), (0, 0, 0));
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
        assert!(!put(
            &mut waiting,
            (&ae, &evil),
            "Ca",
            notification(&content_of(MAX_BYTES_PER_AE))
        ));
        assert_eq!(contents(&waiting, &ae), [content.as_str(), "good"]);
        // What counts is the size, also where the number is full.
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
            assert!(waiting.bytes <= MAX_BYTES);
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
        assert!(waiting.of_cause[&evil] <= MAX_BYTES_PER_CAUSE);
        assert!(waiting.bytes < MAX_BYTES_PER_CAUSE + (1 << 20));
    }
}
