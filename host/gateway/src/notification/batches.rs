//! The batches of notifications that are being sent, shared between those on whose word they are.
//!
//! A batch to a silent target lasts until its time is up. Where too many batches are being sent, the oldest of
//! the sender that has most is displaced. So silent targets cost their sender's notifications, and nobody
//! else's.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use saegis_cse::NamedBy;
use tokio_util::sync::CancellationToken;

/// The batches that are being sent.
#[derive(Debug)]
pub(super) struct Batches {
    /// The oldest first.
    active: Mutex<VecDeque<Active>>,
    limit: usize,
    per_sender: usize,
}

#[derive(Debug)]
struct Active {
    sender: NamedBy,
    displaced: CancellationToken,
}

/// The permit to send one batch, until it is dropped.
#[derive(Debug)]
pub(super) struct BatchPermit {
    batches: Arc<Batches>,
    displaced: CancellationToken,
}

impl Batches {
    /// Makes a limit of so many batches at a time, of which each sender may have `per_sender`.
    pub(super) fn new(limit: usize, per_sender: usize) -> Arc<Self> {
        Arc::new(Self { active: Mutex::default(), limit, per_sender })
    }

    fn active(&self) -> MutexGuard<'_, VecDeque<Active>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a permit for one more batch of a sender, if it does not have as many as any other by then.
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
    /// Waits until another batch has to take this one's place.
    pub(super) async fn displaced(&self) {
        self.displaced.cancelled().await;
    }
}

impl Drop for BatchPermit {
    fn drop(&mut self) {
        // A displaced one is there no more.
        if !self.displaced.is_cancelled() {
            // Marks it, to tell it from the others of its sender.
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
        assert!(batches.begin(ae("b")).is_none(), "none has two more than it");
        drop(of_a);
        assert_eq!(batches.active().len(), 2);
        drop((b, c));
        assert!(batches.active().is_empty());
    }
}
