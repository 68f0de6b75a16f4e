//! Rate limit of events that a peer can cause repeatedly. They are written one by one up to a rate,
//! and summed up beyond it. So a flood does not displace other events, and no event is dropped
//! silently.
//!
//! The rate limit does not hide new subjects. The first event of each subject (an AE-ID, a network
//! of the peer, a From) is always written, and each subject has a separate sum.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use saegis_onem2m::id::CredentialId;

/// Interval in which one more event of a source may be written by itself.
const REFILL_INTERVAL: Duration = Duration::from_secs(10);
/// Minimum and maximum interval between two sums of a kind.
const MIN_SUM_INTERVAL: Duration = Duration::from_secs(1);
const MAX_SUM_INTERVAL: Duration = Duration::from_secs(64);

/// Maximum number of subjects of a source that are counted separately. The others share one sum.
const MAX_SUBJECTS: usize = 64;
/// Maximum number of subjects of all sources that are counted separately.
const MAX_ALL_SUBJECTS: usize = 262_144;
/// Time after which a subject is removed, so that its next event counts as new.
const SUBJECT_LIFETIME: Duration = Duration::from_secs(60);

/// A kind of event. Events of one kind are summed up together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Kind {
    /// The source of the event.
    pub source: Source,
    /// The subject of the event.
    pub subject: Subject,
}

/// Source of events. All its events share one rate limit.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Source {
    /// The event.
    pub event: &'static str,
    /// The originator of the event.
    pub by: By,
    /// Cause; empty for events without one.
    pub cause: Box<str>,
}

/// Subject of an event: the first event of each subject is always written. A subject without
/// members stands for all beyond the maximum, and for events without a subject.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Subject {
    /// The entity that an association stands for.
    pub entity: Option<Box<str>>,
    /// The network of the peer.
    pub peer: Option<Box<str>>,
    /// The From of a request.
    pub from: Option<Box<str>>,
}

/// Originator of an event.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum By {
    /// Holder of a credential.
    Credential(CredentialId),
    /// Peers of an address or a network.
    Peer(Box<str>),
    /// A module.
    Module(Box<str>),
    /// All beyond the maximum of separately counted originators.
    Others,
}

impl Source {
    /// Returns the number of events that are written one by one at first.
    fn burst(&self) -> f64 {
        match &self.by {
            // Refused by a limit that the line names.
            By::Peer(_) if self.cause.starts_with("too-many") || &*self.cause == "displaced" => {
                16.0
            }
            // Many devices may have one address.
            By::Peer(_) => 256.0,
            By::Credential(_) if self.event != "request.refused" => 128.0,
            By::Credential(_) | By::Module(_) | By::Others => 64.0,
        }
    }
}

impl By {
    /// Returns the maximum number of originators of this type that are counted separately.
    /// Addresses are easy to get, credentials are not.
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
    /// Number of events.
    pub count: u64,
    /// Time of the first event.
    pub since: SystemTime,
    /// Time of the last event.
    pub until: SystemTime,
}

/// Events of a source.
struct Seen {
    /// Remaining number of events that are written by themselves, at that time.
    left: f64,
    at: Instant,
    /// They are few. Most sources have one, for as long as the source is known.
    subjects: Vec<(Subject, Counted)>,
}

/// Events of a subject.
struct Counted {
    last: Instant,
    pause: Duration,
    pending: Option<Box<Pending>>,
}

struct Pending {
    count: u64,
    since: SystemTime,
    until: SystemTime,
    due: Instant,
}

/// Recent events.
#[derive(Default)]
struct Table {
    sources: HashMap<Source, Seen>,
    /// Number of subjects of all sources.
    subjects: usize,
}

/// Recent events of peers, and of all others: the two do not share limits.
#[derive(Default)]
pub struct Repeats {
    peers: Mutex<Table>,
    rest: Mutex<Table>,
}

/// Code that holds the lock does not panic.
fn lock(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Repeats {
    /// Returns whether an event is written by itself. Otherwise counts it.
    pub fn is_single(&self, kind: Kind) -> bool {
        self.is_single_at(kind, Instant::now(), SystemTime::now())
    }

    fn is_single_at(&self, kind: Kind, now: Instant, time: SystemTime) -> bool {
        let is_peer = matches!(kind.source.by, By::Peer(_));
        lock(if is_peer { &self.peers } else { &self.rest }).is_single(kind, now, time)
    }

    /// Returns the due sums, or all of them.
    pub fn sums(&self, all: bool) -> Vec<Sum> {
        self.sums_at(all, Instant::now())
    }

    fn sums_at(&self, all: bool, now: Instant) -> Vec<Sum> {
        let mut sums = Vec::new();
        for table in [&self.peers, &self.rest] {
            let mut table = lock(table);
            for (source, seen) in &mut table.sources {
                for (subject, counted) in &mut seen.subjects {
                    match counted.pending.take() {
                        Some(pending) if all || pending.due <= now => {
                            let Pending { count, since, until, .. } = *pending;
                            counted.pause = (counted.pause * 2).min(MAX_SUM_INTERVAL);
                            let kind = Kind { source: source.clone(), subject: subject.clone() };
                            sums.push(Sum { kind, count, since, until });
                        }
                        not_due => counted.pending = not_due,
                    }
                }
            }
            table.remove_quiet(now);
        }
        sums
    }
}

impl Table {
    /// Removes the sources that may write a whole burst again, as one that is not known.
    fn remove_quiet(&mut self, now: Instant) {
        self.sources.retain(|source, seen| !seen.is_quiet(source, now));
        self.subjects = self.sources.values().map(|seen| seen.subjects.len()).sum();
        if self.sources.capacity() > 8 * self.sources.len().max(64) {
            self.sources.shrink_to(2 * self.sources.len());
        }
    }

    fn is_single(&mut self, kind: Kind, now: Instant, time: SystemTime) -> bool {
        let Kind { mut source, mut subject } = kind;
        let most = source.by.most();
        if !self.sources.contains_key(&source) && self.sources.len() >= most {
            self.remove_quiet(now);
            if self.sources.len() >= most {
                source.by = By::Others;
                subject = Subject::default();
            }
        }
        let burst = source.burst();
        let fresh = || Seen { left: burst, at: now, subjects: Vec::new() };
        let seen = self.sources.entry(source).or_insert_with(fresh);
        seen.left = seen.left_at(now, burst);
        seen.at = now;
        let mut found = seen.position(&subject);
        if found.is_none() {
            let before = seen.subjects.len();
            if before >= MAX_SUBJECTS {
                seen.subjects.retain(|(_, counted)| !counted.is_old(now));
                self.subjects = self.subjects.saturating_sub(before - seen.subjects.len());
            }
            if seen.subjects.len() >= MAX_SUBJECTS || self.subjects >= MAX_ALL_SUBJECTS {
                subject = Subject::default();
                found = seen.position(&subject);
            }
        }
        let is_new = subject != Subject::default() && found.is_none();
        let at = found.unwrap_or(seen.subjects.len());
        if found.is_none() {
            self.subjects += 1;
            let counted = Counted { last: now, pause: MIN_SUM_INTERVAL, pending: None };
            seen.subjects.reserve_exact(1);
            seen.subjects.push((subject, counted));
        }
        let Some((_, counted)) = seen.subjects.get_mut(at) else { return true };
        counted.last = now;
        // While a sum is pending, single events would overtake it.
        if is_new || (counted.pending.is_none() && seen.left >= 1.0) {
            seen.left = (seen.left - 1.0).max(0.0);
            return true;
        }
        let due = now + counted.pause;
        let pending = counted
            .pending
            .get_or_insert_with(|| Box::new(Pending { count: 0, since: time, until: time, due }));
        pending.count += 1;
        pending.until = time;
        false
    }
}

impl Seen {
    fn position(&self, subject: &Subject) -> Option<usize> {
        self.subjects.iter().position(|(other, _)| other == subject)
    }

    fn left_at(&self, now: Instant, burst: f64) -> f64 {
        let since = now.saturating_duration_since(self.at);
        (self.left + since.as_secs_f64() / REFILL_INTERVAL.as_secs_f64()).min(burst)
    }

    /// Returns whether the entry can be removed without losing a count.
    fn is_quiet(&self, source: &Source, now: Instant) -> bool {
        let burst = source.burst();
        let is_pending = self.subjects.iter().any(|(_, counted)| counted.pending.is_some());
        !is_pending && self.left_at(now, burst) >= burst
    }
}

impl Counted {
    /// Returns whether the entry can be removed without losing a count.
    fn is_old(&self, now: Instant) -> bool {
        self.pending.is_none() && now.saturating_duration_since(self.last) >= SUBJECT_LIFETIME
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(by: By) -> Kind {
        let source = Source { event: "request.refused", by, cause: "4106".into() };
        Kind { source, subject: Subject::default() }
    }

    fn of_credential(name: &str) -> Kind {
        let id = CredentialId::parse(&format!("12-{name}@in.provider.com")).unwrap();
        refused(By::Credential(id))
    }

    fn of(kind: &Kind, from: &str) -> Kind {
        let subject = Subject { from: Some(from.into()), ..Subject::default() };
        Kind { source: kind.source.clone(), subject }
    }

    fn singles(repeats: &Repeats, kind: &Kind, times: u32, now: Instant) -> usize {
        let time = SystemTime::UNIX_EPOCH;
        (0..times).filter(|_| repeats.is_single_at(kind.clone(), now, time)).count()
    }

    #[test]
    fn repeats_are_counted_separately_by_subject() {
        let (repeats, now) = (Repeats::default(), Instant::now());
        let (bad, good) = (of_credential("bad"), of_credential("good"));
        let written = singles(&repeats, &bad, 10_000, now);
        assert_eq!(written, 64);
        assert_eq!(singles(&repeats, &good, 10, now), 10);
        assert!(repeats.sums_at(false, now).is_empty(), "none is due");
        let sums = repeats.sums_at(false, now + MIN_SUM_INTERVAL);
        assert_eq!(sums.len(), 1);
        assert_eq!((&sums[0].kind, sums[0].count), (&bad, 10_000 - 64));
        // The next one is a while later, however many there are.
        let later = now + MIN_SUM_INTERVAL;
        assert_eq!(singles(&repeats, &bad, 10, later), 0);
        assert!(repeats.sums_at(false, later + MIN_SUM_INTERVAL).is_empty());
        assert_eq!(repeats.sums_at(true, later)[0].count, 10);
        // After a quiet time, events are written by themselves again.
        assert_eq!(singles(&repeats, &bad, 10, later + 3 * REFILL_INTERVAL), 3);
    }

    #[test]
    fn distinct_sources_are_limited() {
        let (repeats, now) = (Repeats::default(), Instant::now());
        let mut written = 0;
        for n in 0..10_000 {
            written += singles(&repeats, &refused(By::Peer(n.to_string().into())), 2, now);
        }
        assert_eq!(written, 2 * 256 + 64);
        let sums = repeats.sums_at(true, now);
        assert_eq!(sums.len(), 1);
        assert_eq!(sums[0].kind.source.by, By::Others);
        assert_eq!(sums[0].count, 2 * (10_000 - 256) - 64);
        // After a quiet time, others take their entries.
        let later = now + 1000 * REFILL_INTERVAL;
        assert_eq!(singles(&repeats, &refused(By::Peer("new".into())), 2, later), 2);
        assert!(lock(&repeats.peers).sources.len() < 5);
        // Many peers do not displace credentials.
        assert_eq!(singles(&repeats, &of_credential("c"), 1, now), 1);
    }

    #[test]
    fn flood_does_not_hide_new_subject() {
        let (repeats, now) = (Repeats::default(), Instant::now());
        let bad = of_credential("bad");
        assert_eq!(singles(&repeats, &of(&bad, "Cjunk"), 1000, now), 64);
        // While a sum is pending, and with an exhausted rate.
        assert_eq!(singles(&repeats, &of(&bad, "Cvictim"), 3, now), 1);
        let sums = repeats.sums_at(true, now);
        let of_victim: Vec<_> = sums.iter().filter(|sum| sum.kind == of(&bad, "Cvictim")).collect();
        assert_eq!((sums.len(), of_victim.len(), of_victim[0].count), (2, 1, 2));
    }

    #[test]
    fn old_subjects_release_their_slots() {
        let (repeats, now) = (Repeats::default(), Instant::now());
        let bad = of_credential("bad");
        let many = |now| -> usize {
            (0..1000).map(|n| singles(&repeats, &of(&bad, &format!("C{n}")), 1, now)).sum()
        };
        assert_eq!(many(now), MAX_SUBJECTS);
        let sums = repeats.sums_at(true, now);
        assert_eq!((sums.len(), sums[0].count), (1, 1000 - MAX_SUBJECTS as u64));
        assert_eq!(sums[0].kind.subject, Subject::default(), "the others have one sum");
        let later = now + SUBJECT_LIFETIME;
        assert_eq!(singles(&repeats, &of(&bad, "Cvictim"), 1, later), 1);
        assert_eq!(lock(&repeats.rest).subjects, 1);
    }
}
