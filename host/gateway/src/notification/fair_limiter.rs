//! Limit of concurrent uses of a resource, shared between those that cause them.
//!
//! A use that waits for a silent peer lasts until its timeout. If too many uses are active, the
//! oldest use of the key with the most uses is displaced. So silent peers only affect those that
//! use them.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// A limit of active uses, by key.
#[derive(Debug)]
pub(super) struct FairLimiter<K> {
    /// The oldest is first.
    active: Mutex<VecDeque<Active<K>>>,
    limit: usize,
    per_key: usize,
}

#[derive(Debug)]
struct Active<K> {
    key: K,
    displaced: CancellationToken,
}

/// Permit for one use, until it is dropped.
#[derive(Debug)]
pub(super) struct FairPermit<K> {
    limiter: Arc<FairLimiter<K>>,
    displaced: CancellationToken,
}

impl<K> FairLimiter<K> {
    fn active(&self) -> MutexGuard<'_, VecDeque<Active<K>>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Clone + Eq + Hash> FairLimiter<K> {
    /// Creates a limit of `limit` concurrent uses, and of `per_key` for each key.
    pub(super) fn new(limit: usize, per_key: usize) -> Arc<Self> {
        Arc::new(Self { active: Mutex::default(), limit, per_key })
    }

    /// Returns a permit for one more use of a key, unless no other key would then have more uses.
    pub(super) fn begin(self: &Arc<Self>, key: K) -> Option<FairPermit<K>> {
        let mut active = self.active();
        let mut of_each = HashMap::<_, usize>::new();
        for one in active.iter() {
            *of_each.entry(&one.key).or_default() += 1;
        }
        let own = of_each.get(&key).copied().unwrap_or(0);
        if own >= self.per_key {
            return None;
        }
        if active.len() >= self.limit {
            let (most, count) = of_each.into_iter().max_by_key(|(_, count)| *count)?;
            if count <= own + 1 {
                return None;
            }
            let oldest = active.iter().position(|one| one.key == *most)?;
            active.remove(oldest)?.displaced.cancel();
        }
        let displaced = CancellationToken::new();
        active.push_back(Active { key, displaced: displaced.clone() });
        Some(FairPermit { limiter: self.clone(), displaced })
    }
}

impl<K> FairPermit<K> {
    /// Waits until another use displaces this one.
    pub(super) async fn displaced(&self) {
        self.displaced.cancelled().await;
    }
}

impl<K> Drop for FairPermit<K> {
    fn drop(&mut self) {
        // A displaced use is already removed.
        if !self.displaced.is_cancelled() {
            // Marks it, to distinguish it from other uses of its key.
            self.displaced.cancel();
            self.limiter.active().retain(|one| !one.displaced.is_cancelled());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_with_most_uses_is_displaced() {
        let limiter = FairLimiter::new(4, 3);
        let of_a: Vec<_> = (0..3).map(|_| limiter.begin("a").unwrap()).collect();
        assert!(limiter.begin("a").is_none());
        let b = limiter.begin("b").unwrap();
        let c = limiter.begin("c").unwrap();
        let displaced = |all: &[FairPermit<&str>]| -> Vec<bool> {
            all.iter().map(|permit| permit.displaced.is_cancelled()).collect()
        };
        assert_eq!(displaced(&of_a), [true, false, false]);
        assert!(limiter.begin("b").is_none(), "no key has two more than it");
        drop(of_a);
        assert_eq!(limiter.active().len(), 2);
        drop((b, c));
        assert!(limiter.active().is_empty());
    }
}
