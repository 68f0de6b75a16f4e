//! The tasks that datagrams go to, by the address of the peer.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio_util::sync::CancellationToken;

/// Maximum number of datagrams that wait for a task.
const MAX_QUEUED: usize = 32;

/// Maximum number of handshakes of one address that new ones replace, one after the other, without one
/// that ends otherwise. Each costs the work of a ServerHello, and anybody can replay a ClientHello.
const MAX_REPLACED: usize = 8;

/// The random value of a ClientHello.
pub type Random = [u8; 32];

/// The tasks of all addresses.
#[derive(Default)]
pub struct Routes(Mutex<Routing>);

#[derive(Default)]
struct Routing {
    of: HashMap<SocketAddr, Route>,
    next: u64,
}

/// The tasks of one address. An association stays until a new handshake has finished.
#[derive(Default)]
struct Route {
    established: Option<Entry>,
    handshake: Option<Entry>,
}

struct Entry {
    number: u64,
    hello: Random,
    datagrams: mpsc::Sender<Vec<u8>>,
    replaced: CancellationToken,
    /// Number of handshakes that it and its predecessors have replaced.
    has_replaced: usize,
}

/// The entry of a task, until it is dropped.
pub struct RouteGuard {
    routes: Arc<Routes>,
    /// Address of the peer.
    pub peer: SocketAddr,
    number: u64,
    /// Canceled when another handshake or association takes its place.
    pub replaced: CancellationToken,
}

/// Reason why a datagram was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropped {
    /// The address has no association, and the datagram starts none.
    UnknownAddress,
    /// The queue of the address is full.
    QueueFull,
    /// The address has started too many handshakes one after the other.
    TooManyHellos,
}

impl Dropped {
    /// Returns the cause for counters.
    pub fn cause(self) -> &'static str {
        match self {
            Self::UnknownAddress => "unknown-address",
            Self::QueueFull => "queue-full",
            Self::TooManyHellos => "too-many-hellos",
        }
    }
}

impl Route {
    fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.established.iter().chain(&self.handshake)
    }
}

impl Routes {
    /// Code that holds the lock does not panic.
    fn lock(&self) -> MutexGuard<'_, Routing> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes a datagram to the association of its address, and to a handshake beside it: both drop
    /// what is not authentic.
    ///
    /// # Errors
    /// Returns the reason why it was dropped.
    pub fn dispatch(&self, peer: SocketAddr, datagram: &[u8]) -> Result<(), Dropped> {
        let routing = self.lock();
        let route = routing.of.get(&peer).ok_or(Dropped::UnknownAddress)?;
        let mut result = Ok(());
        for entry in route.entries() {
            match entry.datagrams.try_send(datagram.to_vec()) {
                Ok(()) => {}
                Err(TrySendError::Full(_)) => result = Err(Dropped::QueueFull),
                // The task is ending.
                Err(TrySendError::Closed(_)) => result = Err(Dropped::UnknownAddress),
            }
        }
        result
    }

    /// Returns whether an address has a handshake or an association from this ClientHello, which the
    /// client or the network has repeated.
    pub fn has(&self, peer: SocketAddr, hello: &Random) -> bool {
        let routing = self.lock();
        routing.of.get(&peer).is_some_and(|route| route.entries().any(|e| e.hello == *hello))
    }

    /// Adds a handshake. It replaces an earlier one of the address, but not the association.
    ///
    /// # Errors
    /// Fails if too many handshakes have replaced each other. The last one continues.
    pub fn begin(
        self: &Arc<Self>,
        peer: SocketAddr,
        hello: Random,
    ) -> Result<(RouteGuard, mpsc::Receiver<Vec<u8>>), Dropped> {
        let (datagrams, incoming) = mpsc::channel(MAX_QUEUED);
        let replaced = CancellationToken::new();
        let mut routing = self.lock();
        let number = routing.next;
        routing.next += 1;
        let route = routing.of.entry(peer).or_default();
        let has_replaced = route.handshake.as_ref().map_or(0, |former| former.has_replaced + 1);
        if has_replaced > MAX_REPLACED {
            return Err(Dropped::TooManyHellos);
        }
        let entry = Entry { number, hello, datagrams, replaced: replaced.clone(), has_replaced };
        if let Some(former) = route.handshake.replace(entry) {
            former.replaced.cancel();
        }
        drop(routing);
        Ok((RouteGuard { routes: self.clone(), peer, number, replaced }, incoming))
    }
}

impl RouteGuard {
    /// Makes the handshake the association of its address, in place of an earlier one.
    pub fn establish(&self) {
        let mut routing = self.routes.lock();
        let Some(route) = routing.of.get_mut(&self.peer) else { return };
        let own = route.handshake.take_if(|entry| entry.number == self.number);
        let Some(own) = own else { return };
        if let Some(former) = route.established.replace(own) {
            former.replaced.cancel();
        }
    }
}

impl Drop for RouteGuard {
    fn drop(&mut self) {
        let mut routing = self.routes.lock();
        let Some(route) = routing.of.get_mut(&self.peer) else { return };
        route.established.take_if(|entry| entry.number == self.number);
        route.handshake.take_if(|entry| entry.number == self.number);
        if route.entries().next().is_none() {
            routing.of.remove(&self.peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer() -> SocketAddr {
        "192.0.2.1:40000".parse().unwrap()
    }

    #[test]
    fn association_stays_until_new_handshake_is_whole() {
        let routes = Arc::new(Routes::default());
        assert_eq!(routes.dispatch(peer(), b"1"), Err(Dropped::UnknownAddress));
        let (first, mut of_first) = routes.begin(peer(), [1; 32]).unwrap();
        first.establish();
        let (second, mut of_second) = routes.begin(peer(), [2; 32]).unwrap();
        assert!(routes.has(peer(), &[1; 32]) && routes.has(peer(), &[2; 32]));
        assert_eq!(routes.dispatch(peer(), b"2"), Ok(()));
        assert_eq!(of_first.try_recv().unwrap(), b"2");
        assert_eq!(of_second.try_recv().unwrap(), b"2");
        let (third, _of_third) = routes.begin(peer(), [3; 32]).unwrap();
        assert!(second.replaced.is_cancelled() && !first.replaced.is_cancelled());
        // A handshake that was replaced establishes nothing.
        second.establish();
        assert!(!first.replaced.is_cancelled());
        third.establish();
        assert!(first.replaced.is_cancelled());
        drop((first, second));
        assert!(routes.has(peer(), &[3; 32]));
        drop(third);
        assert!(routes.lock().of.is_empty());
    }

    #[test]
    fn queue_of_an_address_is_bounded() {
        let routes = Arc::new(Routes::default());
        let (_route, _incoming) = routes.begin(peer(), [1; 32]).unwrap();
        for _ in 0..MAX_QUEUED {
            assert_eq!(routes.dispatch(peer(), b"1"), Ok(()));
        }
        assert_eq!(routes.dispatch(peer(), b"1"), Err(Dropped::QueueFull));
    }
}
