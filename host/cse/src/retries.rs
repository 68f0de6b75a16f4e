//! The notifications of subscriptions that no target has received yet.
//!
//! Their contents are in the store from the commit of their event on, so they survive a restart.
//! Here are their states. Those of one target are sent in order: after a failure, the target gets
//! nothing until its delay has passed, and then the oldest one first. A target that has received a
//! notification twice can tell by its content: a restart repeats those whose response was not stored
//! yet.

mod shares;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use self::shares::Shares;
use crate::record::Seconds;

/// Maximum number and size in bytes of the notifications of one target. The oldest is dropped.
const MAX_PER_TARGET: usize = 100;
const MAX_BYTES_PER_TARGET: usize = 256 << 10;

/// Maximum size of all notifications, in bytes. The oldest one of the owner with the most bytes is
/// dropped.
const MAX_BYTES: usize = 16 << 20;

/// Memory of a notification beside its content, in bytes.
const OVERHEAD: usize = 256;

/// Time after which a notification is dropped.
const MAX_AGE: Seconds = 24 * 60 * 60;

/// Minimum time after which a notification is sent again whose sender has reported no outcome.
const MIN_UNKNOWN: Seconds = 10 * 60;

/// Delay after the first failure. It doubles with each further one, up to the maximum.
const MIN_DELAY: Seconds = 1;
const MAX_DELAY: Seconds = 5 * 60;

/// Time for which the delay of a target without notifications is retained, and maximum number of such
/// targets.
const BACKOFF_RETENTION: Seconds = MAX_DELAY;
const MAX_BACKOFFS: usize = 10_000;

/// A target of a subscription: the resource-ID of the subscription, and the target in its `nu`.
pub(crate) type TargetKey = (String, String);

/// Address of a notification in the store: the resource-ID of its subscription, and its number.
pub(crate) type StoredAt = (String, u64);

/// The states of notifications.
#[derive(Debug, Default)]
pub(crate) struct Retries {
    states: Mutex<States>,
    next: AtomicU64,
    /// Time after which a notification without an outcome is sent again.
    max_unknown: OnceLock<Seconds>,
}

#[derive(Debug, Default)]
struct States {
    targets: HashMap<TargetKey, Target>,
    /// Notifications of each owner of subscriptions.
    shares: Shares<TargetKey>,
    /// Notifications that are no longer to be sent, but still stored.
    ended: Vec<StoredAt>,
    /// Owner that had the last turn.
    last_owner: Arc<str>,
}

/// The notifications for a target, by their numbers.
#[derive(Debug, Default)]
struct Target {
    entries: BTreeMap<u64, Entry>,
    bytes: usize,
    /// Number of failures since the last success.
    failures: u32,
    /// Number of the sent notification that decides on the others, and the time since it is sent. It
    /// remains until its outcome is known, even if the notification itself was dropped.
    probe: Option<(u64, Seconds)>,
    /// Time of the next attempt. It is set when the failure is noticed.
    due: Option<Seconds>,
    /// Time at which a target without notifications is forgotten.
    forgotten_at: Option<Seconds>,
}

#[derive(Debug)]
struct Entry {
    /// Resource-ID of the registree in whose subtree the subscription is, or an empty string.
    owner: Arc<str>,
    size: usize,
    created: Seconds,
    state: EntryState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EntryState {
    /// It waits to be sent.
    Waits,
    /// It is being sent since this time.
    Sent(Seconds),
    /// It waits for a connection of its target, or to be fetched.
    Held,
}

impl Entry {
    fn new(owner: Option<&str>, size: usize, created: Seconds, state: EntryState) -> Self {
        Self { owner: owner.unwrap_or_default().into(), size: size + OVERHEAD, created, state }
    }
}

impl Target {
    fn waiting(&self) -> impl Iterator<Item = u64> {
        let waits = |entry: &Entry| entry.state == EntryState::Waits;
        self.entries.iter().filter(move |(_, entry)| waits(entry)).map(|(number, _)| *number)
    }

    fn has_succeeded(&mut self) {
        (self.failures, self.probe, self.due) = (0, None, None);
    }

    fn is_probe(&self, number: u64) -> bool {
        self.probe.is_some_and(|(probe, _)| probe == number)
    }

    /// Returns whether the target has no notifications, and no delay for the next one.
    fn is_unneeded(&self) -> bool {
        self.entries.is_empty() && self.failures == 0 && self.probe.is_none()
    }

    /// Returns the number of notifications that are due: of a target that failed, only the oldest. Sets
    /// the time of the next attempt after a failure.
    fn count_due(&mut self, now: Seconds) -> usize {
        if self.probe.is_some() || self.waiting().next().is_none() {
            return 0;
        }
        let delay = self.delay();
        if *self.due.get_or_insert(now.saturating_add(delay)) > now {
            return 0;
        }
        if self.failures > 0 { 1 } else { self.waiting().count() }
    }

    /// Takes out some of the notifications that are due.
    fn take(&mut self, number: usize, now: Seconds) -> Vec<u64> {
        let taken: Vec<_> = self.waiting().take(number).collect();
        for number in &taken {
            let sent = EntryState::Sent(now);
            self.entries.entry(*number).and_modify(|entry| entry.state = sent);
        }
        if let Some(first) = taken.first() {
            let probe = (self.failures > 0).then_some((*first, now));
            (self.probe, self.due) = (probe, None);
        }
        taken
    }

    /// Lets notifications wait that were sent without an outcome. Returns those that are too old.
    fn expire(&mut self, now: Seconds, max_unknown: Seconds) -> Vec<u64> {
        let is_unknown = |since: Seconds| since.saturating_add(max_unknown) <= now;
        self.probe.take_if(|(_, since)| is_unknown(*since));
        let mut old = Vec::new();
        for (number, entry) in &mut self.entries {
            if let EntryState::Sent(since) = entry.state
                && is_unknown(since)
            {
                entry.state = EntryState::Waits;
            }
            let is_old = entry.created.saturating_add(MAX_AGE) <= now;
            if is_old && entry.state == EntryState::Waits {
                old.push(*number);
            }
        }
        old
    }

    fn delay(&self) -> Seconds {
        let doublings = self.failures.saturating_sub(1).min(MAX_DELAY.ilog2() + 1);
        if self.failures == 0 { 0 } else { (MIN_DELAY << doublings).min(MAX_DELAY) }
    }
}

impl States {
    /// Removes a notification. Returns whether it existed.
    fn remove(&mut self, key: &TargetKey, number: u64) -> bool {
        let Some(target) = self.targets.get_mut(key) else { return false };
        let Some(entry) = target.entries.remove(&number) else { return false };
        target.bytes -= entry.size;
        self.shares.remove(&entry.owner, number, entry.size);
        self.ended.push((key.0.clone(), number));
        true
    }

    /// Forgets a target without notifications. Its delay is retained for a while.
    fn forget(&mut self, key: &TargetKey) {
        if self.targets.get(key).is_some_and(Target::is_unneeded) {
            self.targets.remove(key);
        }
    }

    /// Forgets the delays of targets that have had no notifications for a while, and those beyond the
    /// maximum number.
    fn forget_backoffs(&mut self, now: Seconds) {
        let mut retained = 0;
        self.targets.retain(|_, target| {
            if !target.entries.is_empty() {
                return true;
            }
            let until = now.saturating_add(BACKOFF_RETENTION);
            let is_needed = !target.is_unneeded()
                && *target.forgotten_at.get_or_insert(until) > now
                && retained < MAX_BACKOFFS;
            retained += usize::from(is_needed);
            is_needed
        });
    }

    /// Adds a notification, and removes others that exceed the limits.
    fn add(&mut self, key: &TargetKey, number: u64, entry: Entry) {
        let target = self.targets.entry(key.clone()).or_default();
        target.bytes += entry.size;
        target.forgotten_at = None;
        self.shares.add(&entry.owner, (key, number), entry.size);
        target.entries.insert(number, entry);
        while let Some(oldest) = self.excess(key) {
            self.displace(key, oldest);
        }
        while self.shares.bytes() > MAX_BYTES {
            let Some((key, number)) = self.shares.oldest_of_largest() else { break };
            self.displace(&key, number);
            self.forget(&key);
        }
    }

    /// Returns the oldest notification of a target that exceeds its limit.
    fn excess(&self, key: &TargetKey) -> Option<u64> {
        let target = self.targets.get(key)?;
        if target.entries.len() <= MAX_PER_TARGET && target.bytes <= MAX_BYTES_PER_TARGET {
            return None;
        }
        target.entries.first_key_value().map(|(number, _)| *number)
    }

    fn displace(&mut self, key: &TargetKey, number: u64) {
        let entry = self.targets.get(key).and_then(|target| target.entries.get(&number));
        // Another one is sent or held elsewhere, and is only not repeated.
        if entry.is_some_and(|entry| entry.state == EntryState::Waits) {
            log_dropped(key, TOO_MANY);
        }
        self.remove(key, number);
    }

    /// Lets notifications wait that were sent without an outcome, and removes those that are too old.
    fn expire(&mut self, now: Seconds, max_unknown: Seconds) {
        let mut old = Vec::new();
        for (key, target) in &mut self.targets {
            let numbers = target.expire(now, max_unknown);
            old.extend(numbers.into_iter().map(|number| (key.clone(), number)));
        }
        for (key, number) in old {
            log_dropped(&key, "its target could not be reached for a day");
            self.remove(&key, number);
        }
    }

    /// Takes out up to `max` notifications that are due, with turns of the owners.
    fn take_due(&mut self, now: Seconds, max: usize) -> Vec<(TargetKey, u64)> {
        let mut owners: BTreeMap<Arc<str>, Vec<DueTarget<'_>>> = BTreeMap::new();
        for (key, target) in &mut self.targets {
            let due = target.count_due(now);
            let first = target.waiting().next();
            if let Some((first, entry)) =
                first.and_then(|first| target.entries.get_key_value(&first))
                && due > 0
            {
                let (first, owner) = (*first, entry.owner.clone());
                owners.entry(owner).or_default().push(DueTarget {
                    first,
                    due,
                    granted: 0,
                    key,
                    target,
                });
            }
        }
        for targets in owners.values_mut() {
            targets.sort_unstable_by_key(|due| due.first);
            targets.truncate(max);
        }
        let last = self.last_owner.clone();
        let mut turns: VecDeque<_> = owners.into_iter().collect();
        let behind = turns.partition_point(|(owner, _)| *owner <= last);
        turns.rotate_left(behind);
        let mut taken = Vec::new();
        let (mut left, mut done) = (max, Vec::new());
        while left > 0
            && let Some((owner, mut targets)) = turns.pop_front()
        {
            // The targets of an owner take turns as well.
            let next =
                targets.iter_mut().filter(|of| of.granted < of.due).min_by_key(|of| of.granted);
            match next {
                Some(next) => {
                    (next.granted, left) = (next.granted + 1, left - 1);
                    self.last_owner = owner.clone();
                    turns.push_back((owner, targets));
                }
                None => done.push((owner, targets)),
            }
        }
        for (_, targets) in done.into_iter().chain(turns) {
            for DueTarget { granted, key, target, .. } in targets {
                let numbers = target.take(granted, now);
                taken.extend(numbers.into_iter().map(|number| (key.clone(), number)));
            }
        }
        taken
    }
}

/// A target with notifications that are due.
struct DueTarget<'a> {
    /// Number of the oldest one.
    first: u64,
    /// Number of notifications.
    due: usize,
    /// Number of those that are taken out.
    granted: usize,
    key: &'a TargetKey,
    target: &'a mut Target,
}

/// Reason why a notification is dropped.
const TOO_MANY: &str = "too many wait for its target";

fn log_dropped((subscription, target): &TargetKey, why: &str) {
    tracing::warn!(
        event = "notification.dropped",
        notifications = 1,
        to = target,
        subscription,
        "dropped a notification: {why}"
    );
}

impl Retries {
    fn states(&self) -> MutexGuard<'_, States> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the number of the next notification.
    pub(crate) fn next(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Sets the time within which a sender reports an outcome. A notification without one is sent
    /// again later.
    pub(crate) fn set_outcome_timeout(&self, timeout: Duration) {
        // It is set once.
        let _ = self.max_unknown.set(timeout.as_secs().saturating_add(1).max(MIN_UNKNOWN));
    }

    /// Adds a notification that was stored before the start. The oldest one of a target is sent soon.
    pub(crate) fn restore(
        &self,
        (key, owner): (&TargetKey, Option<&str>),
        number: u64,
        (size, created): (usize, Seconds),
    ) {
        self.next.fetch_max(number.saturating_add(1), Ordering::Relaxed);
        let mut states = self.states();
        let entry = Entry::new(owner, size, created, EntryState::Waits);
        states.add(key, number, entry);
        if let Some(target) = states.targets.get_mut(key) {
            (target.failures, target.due) = (1, Some(0));
        }
    }

    /// Adds a notification that was stored now. Returns whether it is to be sent now. Otherwise it
    /// waits for former ones.
    pub(crate) fn begin(
        &self,
        (key, owner): (&TargetKey, Option<&str>),
        number: u64,
        (size, created): (usize, Seconds),
    ) -> bool {
        let mut states = self.states();
        let has_former = |target: &Target| {
            target.probe.is_some() || target.failures > 0 || target.waiting().next().is_some()
        };
        let waits = states.targets.get(key).is_some_and(has_former);
        let state = if waits { EntryState::Waits } else { EntryState::Sent(created) };
        states.add(key, number, Entry::new(owner, size, created, state));
        !waits
    }

    /// Ends a notification: its target has received it, or can never receive it.
    pub(crate) fn end(&self, key: &TargetKey, number: u64) {
        let mut states = self.states();
        let is_removed = states.remove(key, number);
        if let Some(target) = states.targets.get_mut(key)
            && (is_removed || target.is_probe(number))
        {
            target.has_succeeded();
        }
        states.forget(key);
    }

    /// Records that another component holds a notification until its target can receive it.
    pub(crate) fn hold(&self, key: &TargetKey, number: u64) {
        let mut states = self.states();
        let Some(target) = states.targets.get_mut(key) else { return };
        let entry = target.entries.get_mut(&number);
        let is_there = entry.map(|entry| entry.state = EntryState::Held).is_some();
        if is_there || target.is_probe(number) {
            target.has_succeeded();
        }
    }

    /// Lets a notification wait that its target has not received.
    pub(crate) fn fail(&self, key: &TargetKey, number: u64) {
        let mut states = self.states();
        let Some(target) = states.targets.get_mut(key) else { return };
        match target.entries.get_mut(&number) {
            Some(entry) => entry.state = EntryState::Waits,
            // It was displaced while it was being sent.
            None => log_dropped(key, TOO_MANY),
        }
        // Several that are sent at a time fail for one reason.
        if target.is_probe(number) || target.failures == 0 {
            target.failures = target.failures.saturating_add(1);
            (target.probe, target.due) = (None, None);
        }
    }

    /// Takes out up to `max` notifications that are due: of a target that failed, only the oldest. The
    /// owners of the subscriptions take turns.
    pub(crate) fn take_due(&self, now: Seconds, max: usize) -> Vec<(TargetKey, u64)> {
        let max_unknown = self.max_unknown.get().copied().unwrap_or(MIN_UNKNOWN);
        let mut states = self.states();
        states.expire(now, max_unknown);
        states.forget_backoffs(now);
        states.take_due(now, max)
    }

    /// Takes out up to `max` notifications that are stored, but no longer needed.
    pub(crate) fn take_ended(&self, max: usize) -> Vec<StoredAt> {
        let mut states = self.states();
        let number = states.ended.len().min(max);
        states.ended.drain(..number).collect()
    }

    /// Puts notifications back that could not be removed from the store.
    pub(crate) fn put_back_ended(&self, ended: Vec<StoredAt>) {
        self.states().ended.extend(ended);
    }
}

#[cfg(test)]
mod tests;
