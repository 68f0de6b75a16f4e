//! Limit of concurrent batches of notifications, shared between the AEs that requested them.
//!
//! A batch to a silent target lasts until its timeout. If too many batches are active, the oldest
//! batch of the sender with the most batches is displaced. So silent targets only affect the
//! notifications of their sender.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use saegis_cse::NamedBy;
use tokio_util::sync::CancellationToken;

/// Active batches.
#[derive(Debug)]
pub(super) struct Batches {
    /// The oldest is first.
    active: Mutex<VecDeque<Active>>,
    limit: usize,
    per_sender: usize,
}

#[derive(Debug)]
struct Active {
    sender: NamedBy,
    displaced: CancellationToken,
}

/// Permit to send one batch, until it is dropped.
#[derive(Debug)]
pub(super) struct BatchPermit {
    batches: Arc<Batches>,
    displaced: CancellationToken,
}

impl Batches {
    /// Creates a limit of `limit` concurrent batches, and of `per_sender` for each sender.
    pub(super) fn new(limit: usize, per_sender: usize) -> Arc<Self> {
        Arc::new(Self { active: Mutex::default(), limit, per_sender })
    }

    fn active(&self) -> MutexGuard<'_, VecDeque<Active>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a permit for one more batch of a sender, unless no other sender would then have more
    /// batches.
    pub(super) fn begin(self: &Arc<Self>, sender: NamedBy) -> Option<BatchPermit> {
        let mut active = self.active();
        let mut of_each = HashMap::<_, usize>::new();
        for batch in active.iter() {
            *of_each.entry(&batch.sender).or_default() += 1;
        }
        let own = of_each.get(&sender).copied().unwrap_or(0);
        if own >= self.per_sender {
            return None;
        }
        if active.len() >= self.limit {
            let (most, count) = of_each.into_iter().max_by_key(|(_, count)| *count)?;
            if count <= own + 1 {
                return None;
            }
            let oldest = active.iter().position(|batch| batch.sender == *most)?;
            active.remove(oldest)?.displaced.cancel();
        }
        let displaced = CancellationToken::new();
        active.push_back(Active { sender, displaced: displaced.clone() });
        Some(BatchPermit { batches: self.clone(), displaced })
    }
}

impl BatchPermit {
    /// Waits until another batch displaces this one.
    pub(super) async fn displaced(&self) {
        self.displaced.cancelled().await;
    }
}

impl Drop for BatchPermit {
    fn drop(&mut self) {
        // A displaced batch is already removed.
        if !self.displaced.is_cancelled() {
            // Marks it, to distinguish it from other batches of its sender.
            self.displaced.cancel();
            self.batches.active().retain(|batch| !batch.displaced.is_cancelled());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ae(name: &str) -> NamedBy {
        NamedBy::Ae(name.into())
    }

    #[test]
    fn sender_with_most_batches_is_displaced() {
        let batches = Batches::new(4, 3);
        let of_a: Vec<_> = (0..3).map(|_| batches.begin(ae("a")).unwrap()).collect();
        assert!(batches.begin(ae("a")).is_none());
        let b = batches.begin(ae("b")).unwrap();
        let c = batches.begin(ae("c")).unwrap();
        let displaced = |all: &[BatchPermit]| -> Vec<bool> {
            all.iter().map(|permit| permit.displaced.is_cancelled()).collect()
        };
        assert_eq!(displaced(&of_a), [true, false, false]);
        assert!(batches.begin(ae("b")).is_none(), "no sender has two more than it");
        drop(of_a);
        assert_eq!(batches.active().len(), 2);
        drop((b, c));
        assert!(batches.active().is_empty());
    }
}
