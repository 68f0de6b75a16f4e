//! Notifications that wait for the connections of their AEs, bounded in number, size and time.
//!
//! A notification counts for its AE and for the credential whose request caused it. The limit of one
//! AE is shared between these credentials, so that none can make the AE lose the notifications of
//! others. The limit of all AEs is shared between the AEs, so that none can use it up.
//!
//! Sizes and ends are kept in order, because a lock is held while others make room. The search looks
//! at the entries of one queue, which are at most [`MAX_PER_AE`].

mod losses;
mod ranking;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};

use saegis_cse::Notification;
use saegis_onem2m::id::CredentialId;
use tokio::time::Instant;

use self::losses::Losses;
pub(super) use self::losses::{Loss, LossSums};
use self::ranking::Ranking;

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
    /// The oldest entry of each is first.
    queues: HashMap<CredentialId, VecDeque<Entry>>,
    /// Bytes in each queue.
    sizes: Ranking,
    /// Bytes that each credential has caused, in each queue.
    of_cause: HashMap<CredentialId, Ranking>,
    /// The queue of each entry, by its end.
    ends: BTreeMap<(Instant, u64), CredentialId>,
    next: u64,
    /// Numbers of those on disk that do not wait any more.
    removed: Vec<u64>,
    losses: Losses,
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

/// Selects the entries of a queue that make room for `excess` bytes. The credential that has caused
/// the most bytes, with those it adds, yields first, and its oldest entry first. Returns nothing if
/// the one that adds has the most and no entry left to yield.
fn victims(
    queue: &VecDeque<Entry>,
    added: Option<(&CredentialId, usize)>,
    excess: usize,
) -> Option<Vec<u64>> {
    let mut shares: HashMap<_, (usize, VecDeque<&Entry>)> = HashMap::new();
    shares.extend(added.map(|(cause, size)| (cause, (size, VecDeque::new()))));
    for entry in queue {
        let (bytes, entries) = shares.entry(&entry.cause).or_default();
        *bytes += entry.size;
        entries.push_back(entry);
    }
    let is_adding = |cause| added.is_some_and(|(adding, _)| adding == cause);
    // The one that adds yields before others with as many bytes.
    let rank = |cause, bytes, entries: &VecDeque<&Entry>| {
        let oldest = entries.front().map_or(u64::MAX, |entry| entry.number);
        (bytes, is_adding(cause), Reverse(oldest), cause)
    };
    let ranked = shares.iter().map(|(cause, (bytes, entries))| rank(*cause, *bytes, entries));
    let mut order: BinaryHeap<_> = ranked.collect();
    let (mut victims, mut freed) = (Vec::new(), 0);
    while freed < excess {
        let (_, _, _, cause) = order.pop()?;
        let (bytes, entries) = shares.get_mut(cause)?;
        let victim = entries.pop_front()?;
        freed += victim.size;
        victims.push(victim.number);
        *bytes -= victim.size;
        if *bytes > 0 {
            order.push(rank(cause, *bytes, entries));
        }
    }
    Some(victims)
}

impl Waiting {
    /// Adds a notification that a request of `cause` has caused for the AE of a credential. Removes
    /// others if necessary. Returns its number, or `None` if there is no room.
    pub(super) fn put(
        &mut self,
        (credential, cause): (&CredentialId, &CredentialId),
        waits: Waits,
    ) -> Option<u64> {
        let size = size(&waits.ae, &waits.notification);
        let made = match size {
            ..=MAX_BYTES_PER_AE => self.make_room((credential, cause), size),
            _ => Err(Loss::TooLarge),
        };
        if let Err(loss) = made {
            self.losses.count(&waits.ae, loss);
            return None;
        }
        self.next += 1;
        let (number, cause) = (self.next, cause.clone());
        self.sizes.add(credential, size);
        self.of_cause.entry(cause.clone()).or_default().add(credential, size);
        self.ends.insert((waits.until, number), credential.clone());
        let queue = self.queues.entry(credential.clone()).or_default();
        queue.push_back(Entry { number, cause, size, waits });
        Some(number)
    }

    /// Removes entries until one of this size may be added.
    fn make_room(
        &mut self,
        (credential, cause): (&CredentialId, &CredentialId),
        size: usize,
    ) -> Result<(), Loss> {
        let added = Some((cause, size));
        let excess = (self.sizes.size_of(credential) + size).saturating_sub(MAX_BYTES_PER_AE);
        self.displace(credential, added, excess)?;
        while self.of_cause.get(cause).is_some_and(|all| all.total() + size > MAX_BYTES_PER_CAUSE)
            && self.displace_of(cause)
        {}
        while self.sizes.total() + size > MAX_BYTES {
            let own = self.sizes.size_of(credential) + size;
            let largest = self.sizes.largest().find(|(_, other)| *other != credential);
            match largest.filter(|(bytes, _)| *bytes >= own).map(|(_, other)| other.clone()) {
                Some(largest) => self.displace(&largest, None, 1)?,
                None => self.displace(credential, added, 1)?,
            }
        }
        Ok(())
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

    /// Returns the numbers of lost notifications since the last call.
    pub(super) fn take_losses(&mut self) -> LossSums {
        self.losses.take()
    }

    /// Makes room for `excess` bytes in a queue.
    fn displace(
        &mut self,
        credential: &CredentialId,
        added: Option<(&CredentialId, usize)>,
        excess: usize,
    ) -> Result<(), Loss> {
        if excess == 0 {
            return Ok(());
        }
        let victims = self.queues.get(credential).and_then(|queue| victims(queue, added, excess));
        for number in victims.ok_or(Loss::NoRoom)? {
            self.lose(credential, number, Loss::Displaced);
        }
        Ok(())
    }

    /// Removes the oldest notification that a credential has caused, for the AE that has the most of
    /// them.
    fn displace_of(&mut self, cause: &CredentialId) -> bool {
        let most = self.of_cause.get(cause).and_then(|all| all.largest().next());
        let Some(credential) = most.map(|(_, credential)| credential.clone()) else { return false };
        let queue = self.queues.get(&credential).into_iter().flatten();
        let oldest = queue.into_iter().find(|entry| entry.cause == *cause).map(|e| e.number);
        oldest.is_some_and(|number| self.lose(&credential, number, Loss::Displaced))
    }

    /// Removes the notifications that wait until then at most.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some(((until, number), credential)) = self.ends.first_key_value()
            && *until <= now
        {
            let (number, credential) = (*number, credential.clone());
            self.lose(&credential, number, Loss::Expired);
        }
    }

    /// Removes the notifications for an AE of a credential that is no longer registered.
    pub(super) fn deregister(&mut self, credential: &CredentialId, ae: &str) {
        let queue = self.queues.get(credential).into_iter().flatten();
        let its = queue.filter(|entry| entry.waits.ae == ae).map(|entry| entry.number);
        for number in its.collect::<Vec<_>>() {
            self.lose(credential, number, Loss::Deregistered);
        }
    }

    /// Removes the notifications for the AEs of a credential that policy no longer has.
    pub(super) fn revoke(&mut self, credential: &CredentialId) {
        let queue = self.queues.get(credential).into_iter().flatten();
        for number in queue.map(|entry| entry.number).collect::<Vec<_>>() {
            self.lose(credential, number, Loss::Revoked);
        }
    }

    /// Returns the credentials for whose AEs notifications wait.
    pub(super) fn credentials(&self) -> impl Iterator<Item = &CredentialId> {
        self.queues.keys()
    }

    /// Returns the first notification after that number that waits for a credential.
    pub(super) fn first_after(&self, credential: &CredentialId, number: u64) -> Option<Entry> {
        let queue = self.queues.get(credential)?;
        queue.get(queue.partition_point(|entry| entry.number <= number)).cloned()
    }

    /// Removes a notification that the AE has got, if it still waits.
    pub(super) fn remove(&mut self, credential: &CredentialId, number: u64) {
        self.take(credential, number);
    }

    fn lose(&mut self, credential: &CredentialId, number: u64, loss: Loss) -> bool {
        let Some(entry) = self.take(credential, number) else { return false };
        self.losses.count(&entry.waits.ae, loss);
        entry.waits.notification.receipt.settled();
        true
    }

    fn take(&mut self, credential: &CredentialId, number: u64) -> Option<Entry> {
        let queue = self.queues.get_mut(credential)?;
        let at = queue.binary_search_by_key(&number, |entry| entry.number).ok()?;
        let entry = queue.remove(at)?;
        if queue.is_empty() {
            self.queues.remove(credential);
        }
        self.sizes.subtract(credential, entry.size);
        if let Some(all) = self.of_cause.get_mut(&entry.cause) {
            all.subtract(credential, entry.size);
            if all.total() == 0 {
                self.of_cause.remove(&entry.cause);
            }
        }
        self.ends.remove(&(entry.waits.until, number));
        if entry.waits.is_stored {
            self.removed.push(number);
        }
        Some(entry)
    }
}

#[cfg(test)]
#[path = "waiting_tests.rs"]
mod tests;
