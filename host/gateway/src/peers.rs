//! What each peer address has under way and has failed at, so that one host can't take all the
//! places, try keys without end, or fill the log.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The time in which a peer's allowance of failures is given back.
const MINUTE: Duration = Duration::from_secs(60);

/// How often a peer's refusals are told, at the most.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Most peers that are remembered. Where there are more, those with nothing under way whose
/// failures are fewest are forgotten.
const MOST_PEERS: usize = 50_000;

/// Bounds for one peer.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Handshakes under way at a time.
    pub under_way: usize,
    /// Handshakes that may fail in a minute.
    pub failures: u32,
}

/// Counts handshakes by peer address. Of IPv6 the network half counts, for a host has all the rest.
#[derive(Clone)]
pub struct Peers {
    bounds: Bounds,
    peers: Arc<Mutex<HashMap<IpAddr, Peer>>>,
}

#[derive(Default)]
struct Peer {
    under_way: usize,
    failures: Failures,
    told: Option<Instant>,
}

/// A bucket that each failure fills a little and time empties.
#[derive(Default, Clone, Copy)]
struct Failures {
    level: f64,
    at: Option<Instant>,
}

impl Failures {
    fn now(self, now: Instant, most: u32) -> f64 {
        let since = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let emptied = since.as_secs_f64() / MINUTE.as_secs_f64() * f64::from(most);
        (self.level - emptied).max(0.0)
    }
}

/// A handshake under way; it ends when this is dropped.
pub struct UnderWay {
    peers: Peers,
    peer: IpAddr,
}

/// Why a peer may not begin a handshake now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// It has as many under way as it may.
    UnderWay,
    /// Too many of its handshakes have failed.
    Failures,
}

impl Full {
    /// The cause of the refusal, for log and counters.
    pub fn cause(self) -> &'static str {
        match self {
            Self::UnderWay => "too-many",
            Self::Failures => "too-many-failed",
        }
    }

    /// The same in words.
    pub fn why(self) -> &'static str {
        match self {
            Self::UnderWay => "the peer has as many handshakes under way as it may",
            Self::Failures => {
                "as many handshakes of the peer have failed in the last minute as may"
            }
        }
    }
}

/// A peer may not begin a handshake now.
#[derive(Debug)]
pub struct TurnedAway {
    /// Why not.
    pub full: Full,
    /// Whether it is to be told in the log: it is for the first of them, and then once a second.
    pub tell: bool,
}

impl Peers {
    /// Nothing counted yet.
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, peers: Arc::default() }
    }

    /// Counts one more under way, unless the peer may not have it.
    ///
    /// # Errors
    /// Why not.
    pub fn enter(&self, peer: IpAddr) -> Result<UnderWay, TurnedAway> {
        self.enter_at(peer, Instant::now())
    }

    fn enter_at(&self, peer: IpAddr, now: Instant) -> Result<UnderWay, TurnedAway> {
        let address = host(peer);
        let mut peers = self.lock();
        let peer = peers.entry(address).or_default();
        let full = if peer.under_way >= self.bounds.under_way {
            Some(Full::UnderWay)
        } else if peer.failures.now(now, self.bounds.failures) + 1.0
            > f64::from(self.bounds.failures)
        {
            Some(Full::Failures)
        } else {
            None
        };
        if let Some(full) = full {
            let tell =
                peer.told.is_none_or(|told| now.saturating_duration_since(told) >= TELL_EVERY);
            if tell {
                peer.told = Some(now);
            }
            return Err(TurnedAway { full, tell });
        }
        peer.under_way += 1;
        Ok(UnderWay { peers: self.clone(), peer: address })
    }

    /// Nothing panics while it holds the lock.
    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, Peer>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets those who owe nothing, and, if that is not enough, those who owe the least.
    fn make_room(&self, peers: &mut HashMap<IpAddr, Peer>, now: Instant) {
        let owes = |peer: &Peer| peer.failures.now(now, self.bounds.failures);
        peers.retain(|_, peer| peer.under_way > 0 || owes(peer) > 0.0);
        if peers.len() >= MOST_PEERS {
            let mut debts: Vec<_> = peers.values().map(owes).collect();
            let (_, median, _) = debts.select_nth_unstable_by(MOST_PEERS / 2, f64::total_cmp);
            let median = *median;
            peers.retain(|_, peer| peer.under_way > 0 || owes(peer) > median);
        }
    }
}

impl UnderWay {
    /// The handshake has failed.
    pub fn failed(self) {
        self.failed_at(Instant::now());
    }

    fn failed_at(self, now: Instant) {
        let most = self.peers.bounds.failures;
        let mut peers = self.peers.lock();
        if let Some(peer) = peers.get_mut(&self.peer) {
            peer.failures = Failures { level: peer.failures.now(now, most) + 1.0, at: Some(now) };
        }
        if peers.len() >= MOST_PEERS {
            self.peers.make_room(&mut peers, now);
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut peers = self.peers.lock();
        if let Some(peer) = peers.get_mut(&self.peer) {
            peer.under_way -= 1;
            if peer.under_way == 0 && peer.failures.at.is_none() {
                peers.remove(&self.peer);
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

    fn peers() -> Peers {
        Peers::new(Bounds { under_way: 2, failures: 3 })
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_peer_has_so_many_under_way_and_no_more() {
        let peers = peers();
        let first = peers.enter(address("192.0.2.1"));
        let second = peers.enter(address("::ffff:192.0.2.1"));
        assert!(first.is_ok() && second.is_ok());
        let away = peers.enter(address("192.0.2.1")).err().unwrap();
        assert_eq!((away.full, away.tell), (Full::UnderWay, true));
        let others = [peers.enter(address("192.0.2.2")), peers.enter(address("2001:db8::1"))];
        assert!(others.iter().all(Result::is_ok));
        let same_network = peers.enter(address("2001:db8::2"));
        assert!(same_network.is_ok());
        assert!(peers.enter(address("2001:db8::3")).is_err());
        drop(first);
        assert!(peers.enter(address("192.0.2.1")).is_ok());
        drop((second, others, same_network));
        assert!(peers.lock().is_empty());
    }

    #[test]
    fn failures_bar_a_peer_until_they_are_old_and_no_other() {
        let (peers, start) = (peers(), Instant::now());
        let (bad, good) = (address("192.0.2.1"), address("192.0.2.2"));
        for _ in 0..3 {
            peers.enter_at(bad, start).unwrap().failed_at(start);
        }
        let away = peers.enter_at(bad, start).err().unwrap();
        assert_eq!((away.full, away.tell), (Full::Failures, true));
        assert!(!peers.enter_at(bad, start).err().unwrap().tell, "told once a second");
        assert!(peers.enter_at(bad, start + TELL_EVERY).err().unwrap().tell);
        assert!(peers.enter_at(good, start).is_ok());
        // A third of the allowance is back after a third of the minute.
        let later = start + MINUTE / 3 + Duration::from_millis(1);
        peers.enter_at(bad, later).unwrap().failed_at(later);
        assert!(peers.enter_at(bad, later).is_err());
        assert!(peers.enter_at(bad, later + MINUTE).is_ok());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (peers, now) = (peers(), Instant::now());
        for n in 0..u32::try_from(MOST_PEERS + MOST_PEERS / 2).unwrap() {
            let peer = IpAddr::from(n.to_be_bytes());
            peers.enter_at(peer, now).unwrap().failed_at(now);
        }
        assert!(peers.lock().len() <= MOST_PEERS, "{}", peers.lock().len());
    }
}
