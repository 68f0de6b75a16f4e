//! The outcomes of notifications, which their sender reports through a [`Receipt`]. Responses are
//! counted for the statistics of their subscriptions. The counts are in memory until the CSE stores
//! them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::retries::{Retries, TargetKey};

/// Maximum number of targets with responses that are not stored yet. Further ones are not counted.
const MAX_TARGETS: usize = 10_000;

/// The numbers of responses that are not stored yet.
#[derive(Debug, Default)]
pub(crate) struct Receipts(Mutex<HashMap<TargetKey, u64>>);

impl Receipts {
    fn counts(&self) -> MutexGuard<'_, HashMap<TargetKey, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, key: &TargetKey) {
        self.put_back([(key.clone(), 1)]);
    }

    /// Adds numbers of responses, for example those that could not be stored.
    pub(crate) fn put_back(&self, taken: impl IntoIterator<Item = (TargetKey, u64)>) {
        let mut counts = self.counts();
        for (key, number) in taken {
            if let Some(count) = counts.get_mut(&key) {
                *count = count.saturating_add(number);
            } else if counts.len() < MAX_TARGETS {
                counts.insert(key, number);
            }
        }
    }

    /// Takes out up to `max` targets with their numbers of responses.
    pub(crate) fn take(&self, max: usize) -> Vec<(TargetKey, u64)> {
        let mut counts = self.counts();
        let keys: Vec<_> = counts.keys().take(max).cloned().collect();
        keys.into_iter().filter_map(|key| counts.remove_entry(&key)).collect()
    }
}

/// The means to report the outcome of a notification. A notification that is dropped without a report
/// has failed.
#[derive(Debug, Clone, Default)]
pub struct Receipt(Option<Arc<Tracked>>);

/// A notification whose outcome is reported.
#[derive(Debug)]
struct Tracked {
    /// Counter of the responses, if the subscription has statistics.
    counted: Option<(TargetKey, Arc<Receipts>)>,
    /// Notification that is stored until its target has received it.
    stored: Option<(TargetKey, u64, Arc<Retries>)>,
    is_reported: AtomicBool,
}

impl Drop for Tracked {
    fn drop(&mut self) {
        if let (Some((key, number, retries)), false) = (&self.stored, *self.is_reported.get_mut()) {
            retries.fail(key, *number);
        }
    }
}

impl Receipt {
    pub(crate) fn new(
        counted: Option<(TargetKey, Arc<Receipts>)>,
        stored: Option<(TargetKey, u64, Arc<Retries>)>,
    ) -> Self {
        let is_tracked = counted.is_some() || stored.is_some();
        let is_reported = AtomicBool::new(false);
        Self(is_tracked.then(|| Arc::new(Tracked { counted, stored, is_reported })))
    }

    fn stored(&self) -> Option<&(TargetKey, u64, Arc<Retries>)> {
        self.0.as_ref()?.stored.as_ref()
    }

    /// Records that an outcome is reported. Returns the notification, if it is stored.
    fn report(&self) -> Option<&(TargetKey, u64, Arc<Retries>)> {
        let tracked = self.0.as_ref()?;
        tracked.is_reported.store(true, Ordering::Relaxed);
        tracked.stored.as_ref()
    }

    /// Returns whether the notification is stored until its target has received it.
    #[must_use]
    pub fn is_stored(&self) -> bool {
        self.stored().is_some()
    }

    /// Reports a response.
    pub fn responded(&self) {
        if let Some((key, receipts)) = self.0.as_ref().and_then(|of| of.counted.as_ref()) {
            receipts.count(key);
        }
        self.settled();
    }

    /// Reports that the notification needs no further attempt: another component ensures its
    /// delivery, or it can never be delivered.
    pub fn settled(&self) {
        if let Some((key, number, retries)) = self.report() {
            retries.end(key, *number);
        }
    }

    /// Reports that the notification waits for a connection of its target, or to be fetched.
    pub fn held(&self) {
        if let Some((key, number, retries)) = self.report() {
            retries.hold(key, *number);
        }
    }

    /// Reports that the target has not received the notification. It is sent again later.
    pub fn failed(&self) {
        if let Some((key, number, retries)) = self.report() {
            retries.fail(key, *number);
        }
    }
}

impl PartialEq for Receipt {
    fn eq(&self, other: &Self) -> bool {
        let keys = |receipt: &Self| {
            let counted = receipt.0.as_ref().and_then(|of| of.counted.as_ref());
            let stored = receipt.stored().map(|(key, number, _)| (key.clone(), *number));
            (counted.map(|(key, _)| key.clone()), stored)
        };
        keys(self) == keys(other)
    }
}

impl Eq for Receipt {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_are_counted_by_target() {
        let receipts = Arc::new(Receipts::default());
        let receipt = |n: usize| {
            let key = ("sub".into(), format!("http://a.b/{n}"));
            Receipt::new(Some((key, receipts.clone())), None)
        };
        Receipt::default().responded();
        receipt(0).responded();
        receipt(0).responded();
        assert_eq!(receipts.take(9), [(("sub".into(), "http://a.b/0".into()), 2)]);
        assert!(receipts.take(9).is_empty());
        (0..=MAX_TARGETS).for_each(|n| receipt(n).responded());
        assert_eq!(receipts.take(16).len(), 16);
        assert_eq!(receipts.take(usize::MAX).len(), MAX_TARGETS - 16);
    }

    #[test]
    fn receipt_without_report_has_failed() {
        let retries = Arc::<Retries>::default();
        let key: TargetKey = ("sub".into(), "http://a.b/".into());
        let begin = |number| {
            assert!(retries.begin((&key, None), number, (10, 100)));
            Receipt::new(None, Some((key.clone(), number, retries.clone())))
        };
        let receipt = begin(0);
        let copy = receipt.clone();
        drop(receipt);
        assert!(retries.take_due(200, 9).is_empty(), "a copy may report");
        drop(copy);
        assert!(retries.take_due(200, 9).is_empty());
        assert_eq!(retries.take_due(201, 9), [(key.clone(), 0)]);
        retries.end(&key, 0);
        begin(1).held();
        begin(2).settled();
        begin(3).responded();
        assert!(retries.take_due(300, 9).is_empty());
        assert_eq!(retries.take_ended(9).len(), 3);
    }
}
