//! The turns of writers. Those of heavy credentials give way to the others.

use std::sync::Arc;
use std::time::Duration;

use saegis_onem2m::id::CredentialId;

use super::fair_slots::{FairSlots, Slot};
use super::heavy_writers::{HeavyTurn, HeavyWriters};
use crate::session::usage::{COMMIT_COST, Usage, thread_time};

/// Maximum number of writers at a time, of which one uses the disk.
const MAX_WRITERS: usize = 8;

/// The writers of the store.
#[derive(Clone)]
pub(super) struct Writers {
    usual: Arc<FairSlots>,
    heavy: HeavyWriters,
    usage: Arc<Usage>,
}

/// The turn of a slice of work.
pub(super) enum Turn {
    Usual(Slot),
    /// That of a writer that gives way.
    Heavy(HeavyTurn),
}

impl Turn {
    /// Ends the turn after it has had the store for this time.
    pub(super) fn end(self, usage: &Usage, written: Duration) {
        match self {
            Self::Usual(slot) => drop(slot),
            Self::Heavy(turn) => turn.end(usage.rest_after(written)),
        }
    }
}

impl Writers {
    /// Creates the writers, of which none is active.
    pub(super) fn new(usage: Arc<Usage>) -> Self {
        let (usual, heavy) = (FairSlots::new(MAX_WRITERS), HeavyWriters::new());
        Self { usual, heavy, usage }
    }

    /// Waits for a turn. One that gives way uses other slots, so that no other writer waits for it.
    pub(super) async fn take(&self, credential: &CredentialId, gives_way: bool) -> Turn {
        match gives_way {
            true => Turn::Heavy(self.heavy.take(credential).await),
            false => Turn::Usual(self.usual.take(credential).await),
        }
    }

    /// Waits for a turn, and runs work that commits on a thread that may block. The work counts for
    /// the credential. Returns nothing if it panics.
    pub(super) async fn commit<T: Send + 'static>(
        &self,
        credential: &CredentialId,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let turn = self.take(credential, self.usage.is_heavy(credential)).await;
        let (usage, credential) = (self.usage.clone(), credential.clone());
        let charged = move || {
            if matches!(turn, Turn::Usual(_)) {
                usage.note_usual_write();
            }
            let (begun, start) = (std::time::Instant::now(), thread_time());
            let done = work();
            usage.charge(&credential, thread_time().saturating_sub(start) + COMMIT_COST);
            turn.end(&usage, begun.elapsed());
            done
        };
        tokio::task::spawn_blocking(charged).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[tokio::test]
    async fn commit_waits_for_its_turn() {
        let credential = |name: &str| CredentialId::parse(&format!("12-{name}@b.c")).unwrap();
        let writers = Writers::new(Arc::default());
        let (own, other) = (credential("own"), credential("other"));
        let mut turns = Vec::new();
        for _ in 0..MAX_WRITERS {
            turns.push(writers.take(&other, false).await);
        }
        let mut commit = pin!(writers.commit(&own, || 7));
        let mut context = Context::from_waker(Waker::noop());
        assert!(commit.as_mut().poll(&mut context).is_pending());
        assert_eq!(Arc::strong_count(&writers.usage), 1, "it has not started");
        // A writer that gives way does not wait for the others.
        let heavy = pin!(writers.take(&own, true));
        assert!(matches!(heavy.poll(&mut context), Poll::Ready(Turn::Heavy(_))));
        turns.pop();
        assert_eq!(commit.await, Some(7));
    }
}
