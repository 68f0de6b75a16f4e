//! Notifications that wait for the connections of their AEs, bounded in number, size and time.
//!
//! A notification counts for its AE and for the credential whose request caused it. The limit of one
//! AE is shared between these credentials, so that none can make the AE lose the notifications of
//! others. The limit of all AEs is shared between the AEs, so that none can use it up.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use saegis_cse::Notification;
use saegis_onem2m::id::CredentialId;
use tokio::time::Instant;

/// Maximum number of notifications that wait for one AE, and of their bytes.
const MAX_PER_AE: usize = 100;
const MAX_BYTES_PER_AE: usize = 256 << 10;

/// Maximum number of bytes that one credential causes to wait.
const MAX_BYTES_PER_CAUSE: usize = 4 << 20;

/// Maximum number of bytes that wait for all AEs.
const MAX_BYTES: usize = 16 << 20;

/// Memory of a notification beside its content, in bytes.
const OVERHEAD: usize = 512;

/// Queues of notifications, by the credential of their AE.
#[derive(Default)]
pub(super) struct Waiting {
    queues: HashMap<CredentialId, Queue>,
    /// Bytes that each credential has caused.
    of_cause: HashMap<CredentialId, usize>,
    bytes: usize,
    next: u64,
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
    since: Instant,
    /// AE-ID-Stem of the AE.
    pub(super) ae: String,
    cause: CredentialId,
    pub(super) notification: Notification,
}

impl Entry {
    fn size(&self) -> usize {
        size(&self.notification)
    }
}

fn size(notification: &Notification) -> usize {
    notification.content.len() + OVERHEAD
}

impl Queue {
    /// Returns the bytes of each credential that has caused an entry.
    fn of_each_cause(&self) -> HashMap<&CredentialId, usize> {
        let mut of_each = HashMap::new();
        for entry in &self.entries {
            *of_each.entry(&entry.cause).or_default() += entry.size();
        }
        of_each
    }

    /// Returns the position of the oldest entry of the credential that has caused the most bytes.
    fn least_entitled(&self) -> Option<usize> {
        let of_each = self.of_each_cause();
        let most = of_each.values().copied().max()?;
        self.entries.iter().position(|entry| of_each.get(&entry.cause) == Some(&most))
    }
}

impl Waiting {
    /// Adds a notification that a request of `cause` has caused for the AE of a credential. Removes
    /// others if necessary. Returns false if the notification exceeds the limit of an AE.
    pub(super) fn put(
        &mut self,
        (credential, cause): (&CredentialId, &CredentialId),
        ae: &str,
        notification: Notification,
    ) -> bool {
        let size = size(&notification);
        if size > MAX_BYTES_PER_AE {
            return false;
        }
        while self.is_full_for(credential, size) && self.displace(credential) {}
        while self.of_cause.get(cause).is_some_and(|bytes| bytes + size > MAX_BYTES_PER_CAUSE)
            && self.displace_of(cause)
        {}
        while self.bytes + size > MAX_BYTES {
            let largest = self.queues.iter().max_by_key(|(_, queue)| queue.bytes);
            let Some(largest) = largest.map(|(credential, _)| credential.clone()) else { break };
            self.displace(&largest);
        }
        self.next += 1;
        self.bytes += size;
        *self.of_cause.entry(cause.clone()).or_default() += size;
        let queue = self.queues.entry(credential.clone()).or_default();
        queue.bytes += size;
        let (number, since, ae) = (self.next, Instant::now(), ae.into());
        queue.entries.push_back(Entry { number, since, ae, cause: cause.clone(), notification });
        true
    }

    fn is_full_for(&self, credential: &CredentialId, size: usize) -> bool {
        self.queues.get(credential).is_some_and(|queue| {
            queue.entries.len() >= MAX_PER_AE || queue.bytes + size > MAX_BYTES_PER_AE
        })
    }

    /// Removes the oldest notification for an AE of the credential that has caused the most of them.
    fn displace(&mut self, credential: &CredentialId) -> bool {
        let at = self.queues.get(credential).and_then(Queue::least_entitled);
        at.is_some_and(|at| self.remove_at(credential, at))
    }

    /// Removes the oldest notification that a credential has caused, for the AE that has the most of
    /// them.
    fn displace_of(&mut self, cause: &CredentialId) -> bool {
        let bytes = |queue: &Queue| -> usize {
            queue.entries.iter().filter(|entry| entry.cause == *cause).map(Entry::size).sum()
        };
        let most = self.queues.iter().max_by_key(|(_, queue)| bytes(queue));
        let at = most.and_then(|(credential, queue)| {
            let at = queue.entries.iter().position(|entry| entry.cause == *cause)?;
            Some((credential.clone(), at))
        });
        at.is_some_and(|(credential, at)| self.remove_at(&credential, at))
    }

    /// Removes the notifications that have waited for that long.
    pub(super) fn expire(&mut self, retention: Duration) {
        let is_over = |queue: &Queue| {
            queue.entries.front().is_some_and(|entry| entry.since.elapsed() >= retention)
        };
        let expired: Vec<_> =
            self.queues.iter().filter(|(_, q)| is_over(q)).map(|(c, _)| c.clone()).collect();
        for credential in expired {
            while self.queues.get(&credential).is_some_and(is_over) {
                self.remove_at(&credential, 0);
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
        let size = entry.size();
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

    fn credential(name: &str) -> CredentialId {
        CredentialId::parse(&format!("12-{name}@b.c")).unwrap()
    }

    fn contents(waiting: &Waiting, credential: &CredentialId) -> Vec<String> {
        let queue = waiting.queues.get(credential);
        let entries = queue.into_iter().flat_map(|queue| &queue.entries);
        entries.map(|e| String::from_utf8_lossy(&e.notification.content).into_owned()).collect()
    }

    #[test]
    fn ae_that_falls_behind_loses_oldest() {
        let a = credential("a");
        let mut waiting = Waiting::default();
        for n in 0..MAX_PER_AE + 5 {
            assert!(waiting.put((&a, &a), "Ca", notification(&n.to_string())));
        }
        assert_eq!(contents(&waiting, &a).len(), MAX_PER_AE);
        let first = waiting.first_after(&a, 0).unwrap();
        assert_eq!(first.notification.content, "5");
        assert_eq!(waiting.first_after(&a, first.number).unwrap().notification.content, "6");
        waiting.remove(&a, first.number);
        waiting.remove(&a, first.number);
        assert_eq!(contents(&waiting, &a).len(), MAX_PER_AE - 1);
        let large = "x".repeat(MAX_BYTES_PER_AE - OVERHEAD);
        assert!(waiting.put((&a, &a), "Ca", notification(&large)));
        assert_eq!(contents(&waiting, &a), [large.as_str()]);
        assert!(!waiting.put((&a, &a), "Ca", notification(&format!("{large}x"))));
        waiting.expire(Duration::from_secs(3600));
        assert_eq!(waiting.bytes, MAX_BYTES_PER_AE);
        waiting.expire(Duration::ZERO);
        assert_eq!((waiting.bytes, waiting.queues.len(), waiting.of_cause.len()), (0, 0, 0));
    }

    #[test]
    fn cause_displaces_its_own_notifications_first() {
        let (ae, good, evil) = (credential("ae"), credential("good"), credential("evil"));
        let mut waiting = Waiting::default();
        assert!(waiting.put((&ae, &good), "Ca", notification("first")));
        for n in 0..3 * MAX_PER_AE {
            assert!(waiting.put((&ae, &evil), "Ca", notification(&n.to_string())));
        }
        assert!(waiting.put((&ae, &good), "Ca", notification("last")));
        let all = contents(&waiting, &ae);
        assert_eq!(all.len(), MAX_PER_AE);
        assert!(all.contains(&"first".into()) && all.contains(&"last".into()), "{all:?}");
        let large = "x".repeat(MAX_BYTES_PER_AE / 2 - OVERHEAD);
        for _ in 0..5 {
            assert!(waiting.put((&ae, &evil), "Ca", notification(&large)));
        }
        assert_eq!(contents(&waiting, &ae)[..2], ["first", "last"]);
    }

    #[test]
    fn largest_queue_makes_room_for_others() {
        let good = credential("good");
        let large = "x".repeat(MAX_BYTES_PER_AE - OVERHEAD);
        let mut waiting = Waiting::default();
        assert!(waiting.put((&good, &good), "Ca", notification("good")));
        // Each AE causes its own notifications.
        for n in 0..2 * MAX_BYTES / MAX_BYTES_PER_AE {
            let evil = credential(&format!("e{n}"));
            assert!(waiting.put((&evil, &evil), "Cb", notification(&large)));
            assert!(waiting.bytes <= MAX_BYTES);
        }
        assert!(waiting.put((&good, &good), "Ca", notification("better")));
        assert_eq!(contents(&waiting, &good), ["good", "better"]);
        // One credential causes those of many AEs.
        let mut waiting = Waiting::default();
        let evil = credential("evil");
        for n in 0..2 * MAX_BYTES / MAX_BYTES_PER_AE {
            let ae = credential(&format!("a{n}"));
            assert!(waiting.put((&ae, &good), "Cb", notification("good")));
            assert!(waiting.put((&ae, &evil), "Cb", notification(&large[OVERHEAD + 4..])));
            assert_eq!(contents(&waiting, &ae)[0], "good");
        }
        assert!(waiting.of_cause[&evil] <= MAX_BYTES_PER_CAUSE);
        assert!(waiting.bytes < MAX_BYTES_PER_CAUSE + (1 << 20));
    }
}
