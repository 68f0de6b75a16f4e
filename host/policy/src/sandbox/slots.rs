//! Slots for calls: limits of concurrent calls for each kind of caller.
//!
//! Every peer can trigger lookups by connecting repeatedly. So lookups of handshakes use separate
//! slots, and each peer address has a share of those. The checks of requests share the other slots
//! with revalidations, and each credential has a share of those.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use saegis_onem2m::id::CredentialId;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::data::decision::ModuleFault;

/// Timeout for a slot.
const WAIT_TIMEOUT: Duration = Duration::from_secs(2);

/// Party on whose behalf a module is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caller {
    /// A peer in a handshake, of which only the address is known.
    Peer(IpAddr),
    /// The credential of a request, by the hash of its Credential-ID.
    Credential(u64),
    /// The gateway itself, for an association.
    Association,
}

impl Caller {
    /// Returns the caller for the checks of a credential's requests.
    pub fn of(credential: &CredentialId) -> Self {
        static HASHES: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        Self::Credential(HASHES.hash_one(credential))
    }

    /// Returns the party that has a share. Two credentials with one hash have one together.
    fn party(self) -> Option<Party> {
        match self {
            Self::Peer(peer) => Some(Party::Network(host(peer))),
            Self::Credential(hash) => Some(Party::Credential(hash)),
            Self::Association => None,
        }
    }
}

/// Party with a share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Party {
    Network(IpAddr),
    Credential(u64),
}

/// Slots for calls of one kind.
pub(crate) struct Slots {
    associations: Semaphore,
    handshakes: Semaphore,
    /// Limits of queued calls for each kind of caller, if there are any.
    queues: Option<[Semaphore; 2]>,
    /// Shares of the parties with active calls.
    shares: Mutex<HashMap<Party, Arc<Semaphore>>>,
    per_party: usize,
}

/// A slot, until it is dropped.
pub(crate) struct Slot<'a> {
    _slot: SemaphorePermit<'a>,
    _share: Option<Share<'a>>,
}

/// Share of a party, for an active or waiting call.
struct Share<'a> {
    slots: &'a Slots,
    party: Party,
    /// Absent when it is dropped.
    share: Option<Arc<Semaphore>>,
    has_part: bool,
}

impl<'a> Share<'a> {
    fn of(slots: &'a Slots, party: Party) -> Self {
        let new = || Arc::new(Semaphore::new(slots.per_party));
        let share = slots.shares().entry(party).or_insert_with(new).clone();
        Self { slots, party, share: Some(share), has_part: false }
    }

    fn try_take(mut self) -> Option<Self> {
        self.share.as_ref()?.try_acquire().ok()?.forget();
        self.has_part = true;
        Some(self)
    }

    async fn take(mut self) -> Option<Self> {
        self.share.as_ref()?.acquire().await.ok()?.forget();
        self.has_part = true;
        Some(self)
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        if let Some(share) = self.share.as_ref().filter(|_| self.has_part) {
            share.add_permits(1);
        }
        let mut shares = self.slots.shares();
        // The entry of a party without calls is removed. This reference goes first and under the lock,
        // so that one of two calls that end at once sees that it is the last.
        self.share = None;
        if shares.get(&self.party).is_some_and(|share| Arc::strong_count(share) == 1) {
            shares.remove(&self.party);
        }
    }
}

impl Slots {
    /// Creates so many slots: half of them for handshakes. Each peer address, and each credential, may
    /// use `per_party`. With `queued`, that many calls may wait in each half.
    pub fn new(slots: usize, per_party: usize, queued: Option<usize>) -> Self {
        let handshakes = (slots / 2).max(1);
        Self {
            associations: Semaphore::new(slots.saturating_sub(handshakes).max(1)),
            handshakes: Semaphore::new(handshakes),
            queues: queued.map(|queued| [Semaphore::new(queued), Semaphore::new(queued)]),
            shares: Mutex::default(),
            per_party: per_party.max(1),
        }
    }

    /// Returns the number of slots that `new` creates: each half has at least one.
    pub fn count(slots: usize) -> usize {
        if slots == 0 { 0 } else { slots.max(2) }
    }

    /// Waits for a slot, with a timeout. It is released when it is dropped, after the store.
    pub async fn take(&self, caller: Caller) -> Result<Slot<'_>, ModuleFault> {
        // A call that finds a slot needs no timer.
        if let Some(slot) = self.try_take(caller) {
            return Ok(slot);
        }
        match tokio::time::timeout(WAIT_TIMEOUT, self.wait(caller)).await {
            Ok(slot) => slot,
            Err(_) => Err(ModuleFault::Busy),
        }
    }

    fn try_take(&self, caller: Caller) -> Option<Slot<'_>> {
        let share = match caller.party() {
            None => None,
            Some(party) => Some(Share::of(self, party).try_take()?),
        };
        let slot = self.of(caller).try_acquire().ok()?;
        Some(Slot { _slot: slot, _share: share })
    }

    /// Waits for a slot, without a timeout.
    pub async fn wait(&self, caller: Caller) -> Result<Slot<'_>, ModuleFault> {
        let stopping = || ModuleFault::NoSandbox("the gateway is stopping".into());
        // The own share first: so no party has more calls in the common queue than its share.
        let share = match caller.party() {
            None => None,
            Some(party) => Some(Share::of(self, party).take().await.ok_or_else(stopping)?),
        };
        let _queued = match (&self.queues, caller) {
            (None, _) => None,
            (Some([queue, _]), Caller::Association | Caller::Credential(_))
            | (Some([_, queue]), Caller::Peer(_)) => {
                Some(queue.try_acquire().map_err(|_| ModuleFault::Busy)?)
            }
        };
        let slot = self.of(caller).acquire().await.map_err(|_| stopping())?;
        Ok(Slot { _slot: slot, _share: share })
    }

    fn of(&self, caller: Caller) -> &Semaphore {
        match caller {
            Caller::Peer(_) => &self.handshakes,
            Caller::Association | Caller::Credential(_) => &self.associations,
        }
    }

    /// Code that holds the lock does not panic.
    fn shares(&self) -> MutexGuard<'_, HashMap<Party, Arc<Semaphore>>> {
        self.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the network of a share: of IPv6 the first 48 bits, which a site may have, as in the
/// limits of the listener.
fn host(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 80)))
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::Pin;
    use std::task::Poll;

    use super::*;

    fn peer(address: &str) -> Caller {
        Caller::Peer(address.parse().unwrap())
    }

    async fn waits<F: Future>(mut call: Pin<&mut F>) -> bool {
        poll_fn(|context| Poll::Ready(call.as_mut().poll(context).is_pending())).await
    }

    #[tokio::test]
    async fn slots_of_one_address_are_limited() {
        let slots = Slots::new(8, 2, None);
        let (flood, other) = (peer("192.0.2.1"), peer("192.0.2.2"));
        let _first = slots.take(flood).await.unwrap();
        let second = slots.take(flood).await.unwrap();
        let mut third = Box::pin(slots.take(flood));
        assert!(waits(third.as_mut()).await);
        assert!(slots.try_take(peer("::ffff:192.0.2.1")).is_none(), "it is the same address");
        let _other = slots.try_take(other).unwrap();
        let _association = slots.try_take(Caller::Association).unwrap();
        drop(second);
        assert!(third.await.is_ok());
    }

    #[tokio::test]
    async fn slots_of_one_credential_are_limited() {
        let slots = Slots::new(8, 2, None);
        let credential =
            |name: &str| Caller::of(&CredentialId::parse(&format!("12-{name}@b.c")).unwrap());
        let held = [(); 2].map(|()| slots.try_take(credential("flood")).unwrap());
        let mut third = Box::pin(slots.take(credential("flood")));
        assert!(waits(third.as_mut()).await);
        let _other = slots.try_take(credential("other")).unwrap();
        let _association = slots.try_take(Caller::Association).unwrap();
        assert!(slots.try_take(Caller::Association).is_none(), "they have the other half");
        assert!(slots.try_take(peer("192.0.2.1")).is_some());
        drop(held);
        assert!(third.await.is_ok());
    }

    #[tokio::test]
    async fn handshakes_and_associations_have_a_half_each() {
        let slots = Slots::new(4, 1, None);
        let handshakes = ["2001:db8::1", "2001:db8:1::1"].map(|at| slots.try_take(peer(at)));
        assert!(handshakes.iter().all(Option::is_some));
        let mut third = Box::pin(slots.take(peer("192.0.2.1")));
        assert!(waits(third.as_mut()).await);
        assert!(slots.try_take(peer("2001:db8:0:ffff::1")).is_none(), "one site has one share");
        let associations = [(); 2].map(|()| slots.try_take(Caller::Association));
        assert!(associations.iter().all(Option::is_some));
        assert!(slots.try_take(Caller::Association).is_none());
        drop(handshakes);
        assert!(third.await.is_ok());
        assert!(slots.try_take(Caller::Association).is_none());
        drop(associations);
        assert!(slots.try_take(Caller::Association).is_some());
    }

    #[tokio::test]
    async fn slot_wait_times_out() {
        let slots = Slots::new(1, 1, None);
        let _held = slots.try_take(Caller::Association).unwrap();
        assert_eq!(slots.take(Caller::Association).await.err(), Some(ModuleFault::Busy));
    }

    #[tokio::test]
    async fn address_without_calls_is_forgotten() {
        let slots = Slots::new(4, 1, None);
        let held = slots.try_take(peer("192.0.2.1")).unwrap();
        let mut waiting = Box::pin(slots.take(peer("192.0.2.1")));
        assert!(waits(waiting.as_mut()).await);
        drop(held);
        assert_eq!(slots.shares().len(), 1);
        // It stops waiting: the client has disconnected.
        drop(waiting);
        assert_eq!(slots.shares().len(), 0);
        assert!(slots.try_take(peer("192.0.2.1")).is_some());
        assert_eq!(slots.shares().len(), 0);
    }

    #[tokio::test]
    async fn waiting_callers_are_limited() {
        let slots = Slots::new(2, 4, Some(1));
        for caller in [Caller::Association, peer("192.0.2.1")] {
            let held = slots.try_take(caller).unwrap();
            let mut waiting = Box::pin(slots.take(caller));
            assert!(waits(waiting.as_mut()).await);
            assert_eq!(slots.take(caller).await.err(), Some(ModuleFault::Busy));
            drop(held);
            assert!(waiting.await.is_ok());
        }
    }
}
