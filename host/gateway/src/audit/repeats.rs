//! Rate limit of events that a peer can cause without end: they are written one by one up to a rate
//! and summed up beyond it. So a flood pushes nothing out of the trail, and no event is dropped
//! silently.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// Interval in which one more event of a kind may be written by itself.
const REFILL: Duration = Duration::from_secs(10);
/// Time to the first sum of a kind, and longest time between two sums.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(64);

/// A kind of event. Events of one kind are summed up together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Kind {
    /// The event.
    pub event: &'static str,
    /// The originator of the event.
    pub by: By,
    /// The cause; empty for events that have none.
    pub cause: String,
}

/// The originator of an event.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum By {
    /// The holder of a credential, by its Credential-ID.
    Credential(String),
    /// The peers of an address or a network.
    Peer(String),
    /// A module.
    Module(String),
    /// All beyond the maximum of originators that are counted by themselves.
    Others,
}

impl Kind {
    /// Returns how many events are written one by one at first.
    fn burst(&self) -> f64 {
        match &self.by {
            // Refused by a bound that the line names.
            By::Peer(_) if self.cause.starts_with("too-many") || self.cause == "displaced" => 16.0,
            // Many devices may have one address.
            By::Peer(_) => 256.0,
            By::Credential(_) if self.event != "request.refused" => 128.0,
            By::Credential(_) | By::Module(_) | By::Others => 64.0,
        }
    }
}

impl By {
    /// Returns how many originators of this sort are counted by themselves. Anybody can have many
    /// addresses, but not many credentials.
    fn most(&self) -> usize {
        match self {
            Self::Peer(_) => 256,
            Self::Credential(_) | Self::Module(_) | Self::Others => 65_536,
        }
    }
}

/// Events that were not written by themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sum {
    /// Their kind.
    pub kind: Kind,
    /// How many there were.
    pub count: u64,
    /// When the first of them was.
    pub since: SystemTime,
    /// When the last of them was.
    pub until: SystemTime,
}

struct Seen {
    /// How many more may be written by themselves, at that time.
    left: f64,
    at: Instant,
    pause: Duration,
    pending: Option<Pending>,
}

struct Pending {
    count: u64,
    since: SystemTime,
    until: SystemTime,
    due: Instant,
}

/// The events of late, by peers and by all others: neither takes the room of the other.
#[derive(Default)]
pub struct Repeats {
    peers: Mutex<HashMap<Kind, Seen>>,
    rest: Mutex<HashMap<Kind, Seen>>,
}

/// Nothing panics while it holds the lock.
fn lock(seen: &Mutex<HashMap<Kind, Seen>>) -> MutexGuard<'_, HashMap<Kind, Seen>> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Repeats {
    /// Returns whether an event is to be written by itself. If not, counts it.
    pub fn is_single(&self, kind: Kind) -> bool {
        self.is_single_at(kind, Instant::now(), SystemTime::now())
    }

    fn is_single_at(&self, mut kind: Kind, now: Instant, time: SystemTime) -> bool {
        let is_peer = matches!(kind.by, By::Peer(_));
        let mut seen = lock(if is_peer { &self.peers } else { &self.rest });
        if !seen.contains_key(&kind) && seen.len() >= kind.by.most() {
            seen.retain(|kind, seen| !seen.is_quiet(kind, now));
            if seen.len() >= kind.by.most() {
                kind.by = By::Others;
            }
        }
        let burst = kind.burst();
        let fresh = Seen { left: burst, at: now, pause: FIRST_PAUSE, pending: None };
        let seen = seen.entry(kind).or_insert(fresh);
        seen.left = seen.left_at(now, burst);
        seen.at = now;
        // As long as a sum is pending, single events would overtake it.
        if seen.pending.is_none() && seen.left >= 1.0 {
            seen.left -= 1.0;
            return true;
        }
        let due = now + seen.pause;
        let pending =
            seen.pending.get_or_insert(Pending { count: 0, since: time, until: time, due });
        pending.count += 1;
        pending.until = time;
        false
    }

    /// Returns the sums that are due, or all of them.
    pub fn sums(&self, all: bool) -> Vec<Sum> {
        self.sums_at(all, Instant::now())
    }

    fn sums_at(&self, all: bool, now: Instant) -> Vec<Sum> {
        let mut sums = Vec::new();
        for seen in [&self.peers, &self.rest] {
            for (kind, seen) in lock(seen).iter_mut() {
                match seen.pending.take() {
                    Some(Pending { count, since, until, due }) if all || due <= now => {
                        seen.pause = (seen.pause * 2).min(LAST_PAUSE);
                        sums.push(Sum { kind: kind.clone(), count, since, until });
                    }
                    not_due => seen.pending = not_due,
                }
            }
        }
        sums
    }
}

impl Seen {
    fn left_at(&self, now: Instant, burst: f64) -> f64 {
        let since = now.saturating_duration_since(self.at);
        (self.left + since.as_secs_f64() / REFILL.as_secs_f64()).min(burst)
    }

    /// Returns whether the entry can be removed without losing a count.
    fn is_quiet(&self, kind: &Kind, now: Instant) -> bool {
        let burst = kind.burst();
        self.pending.is_none() && self.left_at(now, burst) >= burst
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(by: By) -> Kind {
        Kind { event: "request.refused", by, cause: "4106".into() }
    }

    fn singles(repeats: &Repeats, kind: &Kind, times: u32, now: Instant) -> usize {
        let time = SystemTime::UNIX_EPOCH;
        (0..times).filter(|_| repeats.is_single_at(kind.clone(), now, time)).count()
    }

    #[test]
    fn each_is_written_or_counted_and_nobody_takes_anothers_lines() {
        let (repeats, now) = (Repeats::default(), Instant::now());
        let (bad, good) =
            (refused(By::Credential("bad".into())), refused(By::Credential("good".into())));
        let written = singles(&repeats, &bad, 10_000, now);
        assert_eq!(written, 64);
        assert_eq!(singles(&repeats, &good, 10, now), 10);
        assert!(repeats.sums_at(false, now).is_empty(), "none is due");
        let sums = repeats.sums_at(false, now + FIRST_PAUSE);
        assert_eq!(sums.len(), 1);
        assert_eq!((&sums[0].kind, sums[0].count), (&bad, 10_000 - 64));
        // The next one is a while later, however many there are.
        let later = now + FIRST_PAUSE;
        assert_eq!(singles(&repeats, &bad, 10, later), 0);
        assert!(repeats.sums_at(false, later + FIRST_PAUSE).is_empty());
        assert_eq!(repeats.sums_at(true, later)[0].count, 10);
        // What is seldom again is written again.
        assert_eq!(singles(&repeats, &bad, 10, later + 3 * REFILL), 3);
    }

    #[test]
    fn what_is_told_apart_is_bounded() {
        let (repeats, now) = (Repeats::default(), Instant::now());
        let mut written = 0;
        for n in 0..10_000 {
            written += singles(&repeats, &refused(By::Peer(n.to_string())), 2, now);
        }
        assert_eq!(written, 2 * 256 + 64);
        let sums = repeats.sums_at(true, now);
        assert_eq!(sums.len(), 1);
        assert_eq!(sums[0].kind.by, By::Others);
        assert_eq!(sums[0].count, 2 * (10_000 - 256) - 64);
        // When they are quiet, others have their places.
        let later = now + 1000 * REFILL;
        assert_eq!(singles(&repeats, &refused(By::Peer("new".into())), 2, later), 2);
        assert!(lock(&repeats.peers).len() < 5);
        // Nor do many peers drive out credentials.
        assert_eq!(singles(&repeats, &refused(By::Credential("c".into())), 1, now), 1);
    }
}
