//! Per-address limits on concurrent and failed handshakes.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

/// Time in which the allowance of failures of a peer is restored.
const MINUTE: Duration = Duration::from_secs(60);

/// Maximum number of stored networks. Beyond it, networks without active handshakes and with the
/// fewest failures are removed.
const MAX_NETWORKS: usize = 50_000;

/// Networks that are counted for an IPv6 address: the length of the prefix, and the factor of its
/// limit. A host has a whole network of 64 bits, a site often one of 56 or 48.
const IPV6_NETWORKS: [(u8, usize); 3] = [(64, 1), (56, 2), (48, 4)];

/// Limits on handshakes.
#[derive(Debug, Clone, Copy)]
pub struct HandshakeLimits {
    /// Maximum number of active handshakes.
    pub all: usize,
    /// Maximum number of active handshakes of one peer.
    pub active: usize,
    /// Maximum number of failed handshakes of one peer per minute.
    pub failures: u32,
}

/// Counts handshakes by network.
#[derive(Clone)]
pub struct PeerLimits {
    limits: HandshakeLimits,
    counts: Arc<Mutex<Counts>>,
}

#[derive(Default)]
struct Counts {
    networks: HashMap<Network, Count>,
    /// Active slots by the widest counted network, the oldest first.
    slots: HashMap<Network, BTreeMap<u64, Slot>>,
    /// Number of active slots.
    taken: usize,
    next: u64,
}

/// An active slot.
#[derive(Default)]
struct Slot {
    displaced: CancellationToken,
    /// Whether the peer has sent a complete first flight.
    has_begun: bool,
}

/// An IPv4 address, or an IPv6 network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Network {
    address: IpAddr,
    /// Length of the prefix, in bits.
    prefix: u8,
}

#[derive(Default)]
struct Count {
    active: usize,
    failures: Failures,
}

/// Bucket that each failure fills and that empties over time.
#[derive(Default, Clone, Copy)]
struct Failures {
    level: f64,
    at: Option<Instant>,
}

impl Failures {
    /// Returns the current level of a bucket that loses `most` per minute.
    fn now(self, now: Instant, most: f64) -> f64 {
        let since = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let emptied = since.as_secs_f64() / MINUTE.as_secs_f64() * most;
        (self.level - emptied).max(0.0)
    }
}

/// An active handshake, until it is dropped.
pub struct ActiveHandshake {
    peers: PeerLimits,
    peer: IpAddr,
    slot: u64,
    displaced: CancellationToken,
}

/// Reason why a peer may not start a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitReached {
    /// The peer has the maximum number of active handshakes.
    PerPeer,
    /// All slots are in use, and no other network has more than this one.
    Total,
    /// Too many handshakes of the peer have failed.
    Failures,
}

impl LimitReached {
    /// Returns the cause for log and counters.
    pub fn cause(self) -> &'static str {
        match self {
            Self::PerPeer => "too-many",
            Self::Total => "too-many-in-all",
            Self::Failures => "too-many-failed",
        }
    }

    /// Returns the reason as text.
    pub fn why(self) -> &'static str {
        match self {
            Self::PerPeer => "the peer has the maximum number of concurrent handshakes",
            Self::Total => "all handshake slots are in use, and no other network has more of them",
            Self::Failures => {
                "the peer has the maximum number of failed handshakes in the last minute"
            }
        }
    }
}

impl PeerLimits {
    /// Creates empty counters.
    pub fn new(limits: HandshakeLimits) -> Self {
        Self { limits, counts: Arc::default() }
    }

    /// Counts a new handshake, unless a limit is reached.
    ///
    /// # Errors
    /// Returns the limit that is reached.
    pub fn admit(&self, peer: IpAddr) -> Result<ActiveHandshake, LimitReached> {
        self.admit_at(peer, Instant::now())
    }

    fn admit_at(&self, peer: IpAddr, now: Instant) -> Result<ActiveHandshake, LimitReached> {
        let mut counts = self.lock();
        for (network, times) in networks(peer) {
            let Some(count) = counts.networks.get(&network) else { continue };
            if count.active >= self.limits.active.saturating_mul(times) {
                return Err(LimitReached::PerPeer);
            }
            let most = self.failures_of(times);
            if count.failures.now(now, most) + 1.0 > most {
                return Err(LimitReached::Failures);
            }
        }
        let own = widest(peer);
        if counts.taken >= self.limits.all && !counts.displace_for(own) {
            return Err(LimitReached::Total);
        }
        for (network, _) in networks(peer) {
            counts.networks.entry(network).or_default().active += 1;
        }
        let slot = counts.next;
        let taken = Slot::default();
        let displaced = taken.displaced.clone();
        counts.next += 1;
        counts.taken += 1;
        counts.slots.entry(own).or_default().insert(slot, taken);
        Ok(ActiveHandshake { peers: self.clone(), peer, slot, displaced })
    }

    /// Returns the maximum number of failed handshakes of a network per minute.
    fn failures_of(&self, times: usize) -> f64 {
        let times = u32::try_from(times).unwrap_or(u32::MAX);
        f64::from(self.limits.failures) * f64::from(times)
    }

    /// Code that holds the lock does not panic.
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes networks without failures and, if that is not enough, those with the fewest.
    fn remove_networks(&self, networks: &mut HashMap<Network, Count>, now: Instant) {
        let most = f64::from(self.limits.failures);
        let level = |count: &Count| count.failures.now(now, most);
        networks.retain(|_, count| count.active > 0 || level(count) > 0.0);
        if networks.len() >= MAX_NETWORKS {
            let mut levels: Vec<_> = networks.values().map(level).collect();
            let (_, median, _) = levels.select_nth_unstable_by(MAX_NETWORKS / 2, f64::total_cmp);
            let median = *median;
            networks.retain(|_, count| count.active > 0 || level(count) > median);
        }
    }
}

impl Counts {
    /// Ends a handshake of the network that has the most, if it has more than this one. Selects the
    /// oldest without a complete first flight or, if there is none, the oldest. So peers that stall
    /// only displace each other.
    fn displace_for(&mut self, own: Network) -> bool {
        let has = self.slots.get(&own).map_or(0, BTreeMap::len);
        let first = |(network, slots): (&Network, &BTreeMap<u64, Slot>)| {
            let (slot, of) = slots.iter().min_by_key(|(n, slot)| (slot.has_begun, **n))?;
            Some((slots.len(), std::cmp::Reverse((of.has_begun, *slot)), *network))
        };
        // If several networks have equally many, takes the first in that order.
        let biggest =
            self.slots.iter().filter_map(first).max_by_key(|(most, first, _)| (*most, *first));
        let Some((most, std::cmp::Reverse((_, first)), network)) = biggest else { return false };
        if most <= has {
            return false;
        }
        if let Some(slot) = self.free(network, first) {
            slot.displaced.cancel();
        }
        true
    }

    /// Releases a slot, unless it was already released.
    fn free(&mut self, network: Network, slot: u64) -> Option<Slot> {
        let slots = self.slots.get_mut(&network)?;
        let freed = slots.remove(&slot)?;
        if slots.is_empty() {
            self.slots.remove(&network);
        }
        self.taken -= 1;
        Some(freed)
    }
}

impl ActiveHandshake {
    /// Resolves when another peer has received its slot.
    pub async fn displaced(&self) {
        self.displaced.cancelled().await;
    }

    /// Records that the peer has sent a complete first flight: others are displaced first.
    pub fn has_begun(&self) {
        let mut counts = self.peers.lock();
        let slots = counts.slots.get_mut(&widest(self.peer));
        if let Some(slot) = slots.and_then(|slots| slots.get_mut(&self.slot)) {
            slot.has_begun = true;
        }
    }

    /// Records that the handshake has failed.
    pub fn failed(self) {
        self.failed_at(Instant::now());
    }

    fn failed_at(self, now: Instant) {
        let mut counts = self.peers.lock();
        for (network, times) in networks(self.peer) {
            if let Some(count) = counts.networks.get_mut(&network) {
                let level = count.failures.now(now, self.peers.failures_of(times)) + 1.0;
                count.failures = Failures { level, at: Some(now) };
            }
        }
        if counts.networks.len() >= MAX_NETWORKS {
            self.peers.remove_networks(&mut counts.networks, now);
        }
    }
}

impl Drop for ActiveHandshake {
    fn drop(&mut self) {
        let mut counts = self.peers.lock();
        counts.free(widest(self.peer), self.slot);
        for (network, _) in networks(self.peer) {
            if let Some(count) = counts.networks.get_mut(&network) {
                count.active -= 1;
                if count.active == 0 && count.failures.at.is_none() {
                    counts.networks.remove(&network);
                }
            }
        }
    }
}

/// Returns the networks that are counted for an address, the narrowest first, with the factors of
/// their limits.
fn networks(peer: IpAddr) -> impl Iterator<Item = (Network, usize)> {
    let (v4, v6) = match peer.to_canonical() {
        v4 @ IpAddr::V4(_) => (Some((Network { address: v4, prefix: 32 }, 1)), None),
        IpAddr::V6(v6) => (None, Some(v6)),
    };
    let of_v6 = v6.into_iter().flat_map(|v6| {
        IPV6_NETWORKS.into_iter().map(move |(prefix, times)| {
            let bits = v6.to_bits() & (u128::MAX << (128 - prefix));
            (Network { address: Ipv6Addr::from_bits(bits).into(), prefix }, times)
        })
    });
    v4.into_iter().chain(of_v6)
}

fn widest(peer: IpAddr) -> Network {
    let itself = Network { address: peer, prefix: 128 };
    networks(peer).last().map_or(itself, |(network, _)| network)
}

/// Returns the widest counted network of an address, in its usual notation.
pub fn widest_network(peer: IpAddr) -> String {
    match widest(peer) {
        Network { address: address @ IpAddr::V4(_), .. } => address.to_string(),
        Network { address, prefix } => format!("{address}/{prefix}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HandshakeLimits = HandshakeLimits { all: 1000, active: 2, failures: 3 };

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn handshakes_per_peer_are_limited() {
        let peers = PeerLimits::new(LIMITS);
        let first = peers.admit(address("192.0.2.1"));
        let second = peers.admit(address("::ffff:192.0.2.1"));
        assert!(first.is_ok() && second.is_ok());
        assert_eq!(peers.admit(address("192.0.2.1")).err(), Some(LimitReached::PerPeer));
        let others = [peers.admit(address("192.0.2.2")), peers.admit(address("2001:db8::1"))];
        assert!(others.iter().all(Result::is_ok));
        let same_network = peers.admit(address("2001:db8::2"));
        assert!(same_network.is_ok());
        assert!(peers.admit(address("2001:db8::3")).is_err());
        drop(first);
        assert!(peers.admit(address("192.0.2.1")).is_ok());
        drop((second, others, same_network));
        assert!(peers.lock().networks.is_empty());
        assert_eq!(peers.lock().taken, 0);
    }

    #[test]
    fn networks_of_site_share_limit() {
        let peers = PeerLimits::new(LIMITS);
        let admit = |text: &str| peers.admit(address(text));
        // Four of one /56, in two /64; then four more of the /48.
        let of_56: Vec<_> = ["1:2:3:100::1", "1:2:3:100::2", "1:2:3:101::1", "1:2:3:101::2"]
            .map(admit)
            .into_iter()
            .collect::<Result<_, _>>()
            .unwrap();
        assert_eq!(admit("1:2:3:1ff::1").err(), Some(LimitReached::PerPeer));
        let of_48: Vec<_> = ["1:2:3:200::1", "1:2:3:300::1", "1:2:3:400::1", "1:2:3:500::1"]
            .map(admit)
            .into_iter()
            .collect::<Result<_, _>>()
            .unwrap();
        assert_eq!(admit("1:2:3:ff00::1").err(), Some(LimitReached::PerPeer));
        assert!(admit("1:2:4::1").is_ok());
        drop((of_56, of_48));
        assert!(admit("1:2:3:ff00::1").is_ok());
    }

    #[test]
    fn peer_with_most_handshakes_is_displaced() {
        let peers = PeerLimits::new(HandshakeLimits { all: 100, active: 60, failures: 1_000_000 });
        let take = |peer: &str| -> Vec<_> {
            (0..100).map_while(|_| peers.admit(address(peer)).ok()).collect()
        };
        let (first, second) = (take("192.0.2.1"), take("192.0.2.2"));
        let gone =
            |of: &[ActiveHandshake]| of.iter().filter(|u| u.displaced.is_cancelled()).count();
        // Then the second network has as many as the first, which lost them.
        assert_eq!((first.len(), gone(&first)), (60, 10));
        assert_eq!((second.len(), gone(&second)), (50, 0));
        assert!(first[0].displaced.is_cancelled() && !first[59].displaced.is_cancelled());
        assert_eq!(peers.admit(address("192.0.2.2")).err(), Some(LimitReached::Total));
        // A new peer gets a slot and keeps it, while the others try again and again.
        let new = peers.admit(address("192.0.2.3")).unwrap();
        let again: Vec<_> = (0..500)
            .filter_map(|n| {
                peers.admit(address(if n % 2 == 0 { "192.0.2.1" } else { "192.0.2.2" })).ok()
            })
            .collect();
        assert!(!new.displaced.is_cancelled());
        assert_eq!(peers.lock().taken, 100);
        drop((first, second, again, new));
        assert_eq!(peers.lock().taken, 0);
        assert!(peers.lock().slots.is_empty() && peers.lock().networks.is_empty());
    }

    #[test]
    fn oldest_handshake_is_displaced_among_equals() {
        let peers = PeerLimits::new(HandshakeLimits { all: 3, active: 60, failures: 1_000_000 });
        let all: Vec<_> =
            (1..=4).map(|n| peers.admit(IpAddr::from([192, 0, 2, n])).unwrap()).collect();
        let gone: Vec<_> = all.iter().map(|u| u.displaced.is_cancelled()).collect();
        assert_eq!(gone, [true, false, false, false]);
        // A network of a site counts as one host.
        let site = PeerLimits::new(HandshakeLimits { all: 2, active: 60, failures: 1_000_000 });
        let _held = [
            site.admit(address("1:2:3:4::1")).unwrap(),
            site.admit(address("1:2:3:5::1")).unwrap(),
        ];
        assert_eq!(site.admit(address("1:2:3:6::1")).err(), Some(LimitReached::Total));
        assert!(site.admit(address("1:2:4::1")).is_ok());
    }

    #[test]
    fn handshake_without_first_flight_is_displaced_first() {
        let peers = PeerLimits::new(HandshakeLimits { all: 3, active: 60, failures: 1_000_000 });
        let all: Vec<_> = (0..3).map(|_| peers.admit(address("192.0.2.1")).unwrap()).collect();
        all[0].has_begun();
        let _new = peers.admit(address("192.0.2.2")).unwrap();
        let gone = |of: &[ActiveHandshake]| -> Vec<_> {
            of.iter().map(|active| active.displaced.is_cancelled()).collect()
        };
        assert_eq!(gone(&all), [false, true, false]);
        // The same if each network has one.
        let peers = PeerLimits::new(HandshakeLimits { all: 3, active: 60, failures: 1_000_000 });
        let each: Vec<_> =
            (1..=3).map(|n| peers.admit(IpAddr::from([192, 0, 2, n])).unwrap()).collect();
        each[0].has_begun();
        each[1].has_begun();
        let _new = peers.admit(address("192.0.2.9")).unwrap();
        assert_eq!(gone(&each), [false, false, true]);
    }

    #[test]
    fn failures_bar_only_their_peer_temporarily() {
        let (peers, start) = (PeerLimits::new(LIMITS), Instant::now());
        let (bad, good) = (address("192.0.2.1"), address("192.0.2.2"));
        for _ in 0..3 {
            peers.admit_at(bad, start).unwrap().failed_at(start);
        }
        assert_eq!(peers.admit_at(bad, start).err(), Some(LimitReached::Failures));
        assert!(peers.admit_at(good, start).is_ok());
        // A third of the allowance is restored after a third of the minute.
        let later = start + MINUTE / 3 + Duration::from_millis(1);
        peers.admit_at(bad, later).unwrap().failed_at(later);
        assert!(peers.admit_at(bad, later).is_err());
        assert!(peers.admit_at(bad, later + MINUTE).is_ok());
    }

    #[test]
    fn failures_of_a_site_bar_the_site() {
        let (peers, start) = (PeerLimits::new(LIMITS), Instant::now());
        // Each address is in another network of 64 bits.
        for n in 0..12 {
            let peer = address(&format!("2001:db8:1:{n:x}00::1"));
            peers.admit_at(peer, start).unwrap().failed_at(start);
        }
        assert_eq!(
            peers.admit_at(address("2001:db8:1:ff00::1"), start).err(),
            Some(LimitReached::Failures)
        );
        assert!(peers.admit_at(address("2001:db8:2::1"), start).is_ok());
        assert_eq!(widest_network(address("2001:db8:1:ff00::1")), "2001:db8:1::/48");
        assert_eq!(widest_network(address("::ffff:192.0.2.1")), "192.0.2.1");
    }

    #[test]
    fn remembered_networks_are_limited() {
        let (peers, now) = (PeerLimits::new(LIMITS), Instant::now());
        for n in 0..u32::try_from(MAX_NETWORKS + MAX_NETWORKS / 2).unwrap() {
            let peer = IpAddr::from(n.to_be_bytes());
            peers.admit_at(peer, now).unwrap().failed_at(now);
        }
        assert!(peers.lock().networks.len() <= MAX_NETWORKS);
    }
}
