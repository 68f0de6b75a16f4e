//! How many handshakes a peer address has under way, so that one host can't take all the places.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counts handshakes by peer address. Of IPv6 the network half counts, for a host has all the rest.
#[derive(Clone)]
pub struct Peers {
    most: usize,
    under_way: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// A handshake under way; it ends when this is dropped.
pub struct UnderWay {
    peers: Peers,
    peer: IpAddr,
}

impl Peers {
    /// At most `most` handshakes of a peer at a time.
    pub fn new(most: usize) -> Self {
        Self { most, under_way: Arc::default() }
    }

    /// Counts one more, unless the peer has as many as it may.
    pub fn enter(&self, peer: IpAddr) -> Option<UnderWay> {
        let peer = host(peer);
        let mut under_way = self.lock();
        let count = under_way.entry(peer).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(UnderWay { peers: self.clone(), peer })
    }

    /// Nothing panics while it holds the lock.
    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut under_way = self.peers.lock();
        if let Some(count) = under_way.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                under_way.remove(&self.peer);
            }
        }
    }
}

fn host(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        v4 @ IpAddr::V4(_) => v4,
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_has_so_many_and_no_more() {
        let peers = Peers::new(2);
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let first = peers.enter(address("192.0.2.1"));
        let second = peers.enter(address("::ffff:192.0.2.1"));
        assert!(first.is_some() && second.is_some());
        assert!(peers.enter(address("192.0.2.1")).is_none());
        let others = [peers.enter(address("192.0.2.2")), peers.enter(address("2001:db8::1"))];
        assert!(others.iter().all(Option::is_some));
        let same_network = peers.enter(address("2001:db8::2"));
        assert!(same_network.is_some());
        assert!(peers.enter(address("2001:db8::3")).is_none());
        drop(first);
        assert!(peers.enter(address("192.0.2.1")).is_some());
        drop((second, others, same_network));
        assert!(peers.lock().is_empty());
    }
}
