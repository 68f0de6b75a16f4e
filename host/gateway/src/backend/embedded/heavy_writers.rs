//! Writers of heavy credentials: few at a time, and one of each credential, which rests between its
//! writes. A credential that rests does not delay others.

use std::sync::Arc;
use std::time::Duration;

use saegis_onem2m::id::CredentialId;

use super::fair_slots::{ActiveRequest, ActiveRequests, FairSlots, Slot};

/// Maximum number of writers of heavy credentials at a time.
const MAX_HEAVY_WRITERS: usize = 2;

/// The writers of heavy credentials.
#[derive(Clone)]
pub(super) struct HeavyWriters {
    slots: Arc<FairSlots>,
    of_each: Arc<ActiveRequests>,
}

/// The turn of a writer, until it is dropped.
pub(super) struct HeavyTurn {
    slot: Slot,
    own: ActiveRequest,
}

impl HeavyWriters {
    /// Creates the writers, of which none is active.
    pub(super) fn new() -> Self {
        Self { slots: FairSlots::new(MAX_HEAVY_WRITERS), of_each: ActiveRequests::new(1) }
    }

    /// Waits for the end of the credential's rest, and then for a slot.
    pub(super) async fn take(&self, credential: &CredentialId) -> HeavyTurn {
        let own = self.of_each.admit(credential).await;
        HeavyTurn { slot: self.slots.take(credential).await, own }
    }
}

impl HeavyTurn {
    /// Ends the turn. The next one of the credential begins after its rest.
    pub(super) fn end(self, rest: Duration) {
        drop(self.slot);
        self.own.release_after(rest);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[tokio::test]
    async fn resting_credential_does_not_delay_others() {
        let credential = |name: usize| CredentialId::parse(&format!("12-{name}@b.c")).unwrap();
        let writers = HeavyWriters::new();
        for name in 0..2 * MAX_HEAVY_WRITERS {
            let own = credential(name);
            let turn = pin!(writers.take(&own));
            let Poll::Ready(turn) = turn.poll(&mut Context::from_waker(Waker::noop())) else {
                panic!("credential {name} waits for another one");
            };
            turn.end(Duration::from_secs(3600));
        }
        let own = credential(0);
        let again = pin!(writers.take(&own));
        assert!(again.poll(&mut Context::from_waker(Waker::noop())).is_pending(), "it rests");
        let _turns = [writers.take(&credential(8)).await, writers.take(&credential(9)).await];
        let other = credential(10);
        let third = pin!(writers.take(&other));
        assert!(third.poll(&mut Context::from_waker(Waker::noop())).is_pending(), "no slot");
    }
}
