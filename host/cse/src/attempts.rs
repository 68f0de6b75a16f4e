//! Attempts to access resources that subscriptions monitor (operationMonitor, TS-0001 table
//! 9.6.8-3). They wait in memory for a short time, because a request that is refused or only reads
//! does not write.
//!
//! Refused requests are attempts as well, so anybody can cause many. Each originator has a share of
//! each subscription, and each registree with subscriptions has a share of all, so that attempts at
//! one resource do not hide those at another.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

/// Maximum number of attempts that wait. The latest one for the registree with the most is dropped.
const MAX_ATTEMPTS: usize = 1000;

/// Maximum number of attempts of one originator that wait for one subscription. Further ones are not
/// reported.
const MAX_PER_ORIGINATOR: usize = 32;

/// An attempt.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Attempt {
    /// Resource-ID of the subscription.
    pub(crate) subscription: String,
    /// Resource-ID of the registree in whose subtree the subscription is, or an empty string.
    pub(crate) owner: String,
    /// Originator of the attempt.
    pub(crate) originator: String,
    /// Event to report.
    pub(crate) event: Value,
}

/// The attempts that were not reported yet.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    waiting: Mutex<Waiting>,
    are_monitored: AtomicBool,
}

#[derive(Debug, Default)]
struct Waiting {
    /// The oldest one is first.
    attempts: VecDeque<Attempt>,
    /// Number of attempts for each subscription, by originator.
    of_originator: HashMap<(String, String), usize>,
    /// Number of attempts for the subscriptions of each registree.
    of_owner: HashMap<String, usize>,
}

impl Waiting {
    /// Counts an attempt that is added.
    fn count(&mut self, attempt: &Attempt) {
        let pair = (attempt.subscription.clone(), attempt.originator.clone());
        *self.of_originator.entry(pair).or_default() += 1;
        *self.of_owner.entry(attempt.owner.clone()).or_default() += 1;
    }

    /// Counts an attempt that is removed.
    fn discount(&mut self, attempt: &Attempt) {
        let pair = (attempt.subscription.clone(), attempt.originator.clone());
        if let Some(number) = self.of_originator.get_mut(&pair) {
            *number -= 1;
            if *number == 0 {
                self.of_originator.remove(&pair);
            }
        }
        if let Some(number) = self.of_owner.get_mut(&attempt.owner) {
            *number -= 1;
            if *number == 0 {
                self.of_owner.remove(&attempt.owner);
            }
        }
    }

    fn put(&mut self, attempt: Attempt) {
        let pair = (attempt.subscription.clone(), attempt.originator.clone());
        if self.of_originator.get(&pair).is_some_and(|number| *number >= MAX_PER_ORIGINATOR) {
            return log_dropped(&attempt);
        }
        self.count(&attempt);
        self.attempts.push_back(attempt);
        if self.attempts.len() > MAX_ATTEMPTS {
            self.displace();
        }
    }

    /// Drops the latest attempt for the registree with the most.
    fn displace(&mut self) {
        let largest = self.of_owner.iter().max_by_key(|(_, number)| **number);
        let Some((owner, _)) = largest else { return };
        let latest = self.attempts.iter().rposition(|attempt| attempt.owner == *owner);
        if let Some(attempt) = latest.and_then(|at| self.attempts.remove(at)) {
            log_dropped(&attempt);
            self.discount(&attempt);
        }
    }
}

fn log_dropped(attempt: &Attempt) {
    tracing::debug!(
        event = "notification.waiting-dropped",
        subscription = attempt.subscription,
        "waiting notification dropped: too many attempts are monitored"
    );
}

impl Attempts {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether a subscription may monitor attempts.
    pub(crate) fn are_monitored(&self) -> bool {
        self.are_monitored.load(Ordering::Acquire)
    }

    /// Records whether a subscription may monitor attempts.
    pub(crate) fn set_monitored(&self, are_monitored: bool) {
        self.are_monitored.store(are_monitored, Ordering::Release);
    }

    /// Adds an attempt.
    pub(crate) fn put(&self, attempt: Attempt) {
        self.waiting().put(attempt);
    }

    /// Takes out up to `max` attempts, oldest first.
    pub(crate) fn take(&self, max: usize) -> Vec<Attempt> {
        let mut waiting = self.waiting();
        let number = waiting.attempts.len().min(max);
        let taken: Vec<_> = waiting.attempts.drain(..number).collect();
        taken.iter().for_each(|attempt| waiting.discount(attempt));
        taken
    }

    /// Puts attempts back that could not be reported. They are the oldest ones.
    pub(crate) fn put_back(&self, taken: Vec<Attempt>) {
        let mut waiting = self.waiting();
        for attempt in taken.into_iter().rev() {
            waiting.count(&attempt);
            waiting.attempts.push_front(attempt);
        }
        while waiting.attempts.len() > MAX_ATTEMPTS {
            waiting.displace();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(subscription: &str, owner: &str, originator: &str) -> Attempt {
        let event = Value::Null;
        let [subscription, owner, originator] = [subscription, owner, originator].map(Into::into);
        Attempt { subscription, owner, originator, event }
    }

    #[test]
    fn originator_does_not_hide_its_attempts() {
        let attempts = Attempts::default();
        for _ in 0..2 * MAX_ATTEMPTS {
            attempts.put(attempt("sub-1", "Ca", "Cx"));
        }
        attempts.put(attempt("sub-2", "Ca", "Cx"));
        attempts.put(attempt("sub-1", "Ca", "Cy"));
        let taken = attempts.take(usize::MAX);
        assert_eq!(taken.len(), MAX_PER_ORIGINATOR + 2);
        assert_eq!(taken[MAX_PER_ORIGINATOR], attempt("sub-2", "Ca", "Cx"));
        attempts.put(attempt("sub-1", "Ca", "Cx"));
        assert_eq!(attempts.take(9), [attempt("sub-1", "Ca", "Cx")]);
        let waiting = attempts.waiting();
        assert!(waiting.of_originator.is_empty() && waiting.of_owner.is_empty());
    }

    #[test]
    fn registree_displaces_only_its_own_attempts() {
        let attempts = Attempts::default();
        attempts.put(attempt("first", "Ca", "Cx"));
        for n in 0..2 * MAX_ATTEMPTS {
            attempts.put(attempt(&format!("sub-{n}"), "Cx", "Cx"));
        }
        attempts.put(attempt("last", "Cb", "Cx"));
        let taken = attempts.take(usize::MAX);
        assert_eq!(taken.len(), MAX_ATTEMPTS);
        assert_eq!(taken.first(), Some(&attempt("first", "Ca", "Cx")));
        assert_eq!(taken.last(), Some(&attempt("last", "Cb", "Cx")));
    }

    #[test]
    fn unreported_attempts_are_put_back_in_order() {
        let attempts = Attempts::default();
        let all = ["sub-1", "sub-2", "sub-3"].map(|sub| attempt(sub, "Ca", "Cx"));
        all.iter().cloned().for_each(|attempt| attempts.put(attempt));
        let taken = attempts.take(2);
        assert_eq!(taken, all[..2]);
        attempts.put_back(taken);
        assert_eq!(attempts.take(9), all);
    }
}
