//! Limits by key: each may have so many at a time, so that one who takes all it can
//! get leaves the others theirs.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

/// How many each has.
pub struct KeyedLimiter<K> {
    taken: Arc<Mutex<HashMap<K, usize>>>,
    most: usize,
}

impl<K: Hash + Eq + Clone> KeyedLimiter<K> {
    /// Nobody has any yet; each may have `most`.
    pub fn new(most: usize) -> Self {
        Self { taken: Arc::default(), most }
    }

    /// One more for somebody, if that is not too many.
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

/// One that is taken, until it is dropped.
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
        assert_eq!(shares.taken.lock().unwrap().len(), 1, "who has none is forgotten");
    }
}
