//! Limit of concurrent permits per key, so that one key cannot exhaust the resources of others.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

/// Number of permits of each key.
pub struct KeyedLimiter<K> {
    taken: Arc<Mutex<HashMap<K, usize>>>,
    most: usize,
}

impl<K: Hash + Eq + Clone> KeyedLimiter<K> {
    /// Creates a limiter of `most` permits per key.
    pub fn new(most: usize) -> Self {
        Self { taken: Arc::default(), most }
    }

    /// Returns a permit, unless the key has the maximum.
    pub fn take(&self, of: &K) -> Option<KeyedPermit<K>> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let own = taken.entry(of.clone()).or_default();
        if *own >= self.most {
            return None;
        }
        *own += 1;
        Some(KeyedPermit { taken: self.taken.clone(), of: of.clone() })
    }
}

/// A permit, until it is dropped.
pub struct KeyedPermit<K: Hash + Eq> {
    taken: Arc<Mutex<HashMap<K, usize>>>,
    of: K,
}

impl<K: Hash + Eq> Drop for KeyedPermit<K> {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = taken.get_mut(&self.of) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.of);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_are_separate_by_key_and_returned() {
        let shares = KeyedLimiter::new(2);
        let first = shares.take(&"a").unwrap();
        let _second = shares.take(&"a").unwrap();
        assert!(shares.take(&"a").is_none());
        assert!(shares.take(&"b").is_some());
        drop(first);
        assert!(shares.take(&"a").is_some());
        assert_eq!(shares.taken.lock().unwrap().len(), 1, "the entry without permits is removed");
    }
}
