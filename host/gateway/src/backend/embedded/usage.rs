//! How much of the embedded CSE each credential has used of late. The requests of one that uses much give
//! way to those of the others.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use saegis_onem2m::id::CredentialId;

/// Time constant with which usage decays.
const DECAY: Duration = Duration::from_secs(1);

/// Usage from which a credential gives way: a twentieth of one processor.
const HEAVY: Duration = Duration::from_millis(50);

/// Usage below which the entry of a credential can be removed.
const FORGOTTEN: Duration = Duration::from_millis(1);

/// Cost of a commit in addition to processor time: all credentials share one disk.
pub(super) const COMMIT_COST: Duration = Duration::from_millis(1);

/// Rest of a writer that gives way, as a multiple of the time of its write, and its maximum. Without
/// it, many small writes would use the whole disk and a processor.
const REST: u32 = 9;
const MAX_REST: Duration = Duration::from_millis(250);

/// Usage of each credential.
#[derive(Debug, Default)]
pub(super) struct Usage {
    of: Mutex<HashMap<CredentialId, Used>>,
    /// Time of the last write of a credential that did not give way.
    usual_write: Mutex<Option<Instant>>,
}

#[derive(Debug, Clone, Copy)]
struct Used {
    seconds: f64,
    at: Instant,
}

impl Used {
    fn now(self, now: Instant) -> f64 {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        self.seconds * (-since / DECAY.as_secs_f64()).exp()
    }
}

impl Usage {
    /// Code that holds the lock does not panic.
    fn of(&self) -> MutexGuard<'_, HashMap<CredentialId, Used>> {
        self.of.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether a credential has so much recent usage that it gives way to others.
    pub(super) fn is_heavy(&self, credential: &CredentialId) -> bool {
        self.is_heavy_at(credential, Instant::now())
    }

    fn is_heavy_at(&self, credential: &CredentialId, now: Instant) -> bool {
        self.of().get(credential).is_some_and(|used| used.now(now) > HEAVY.as_secs_f64())
    }

    fn usual_write(&self) -> MutexGuard<'_, Option<Instant>> {
        self.usual_write.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a write of a credential that does not give way.
    pub(super) fn note_usual_write(&self) {
        *self.usual_write() = Some(Instant::now());
    }

    /// Returns how long the writers that give way rest after one of them has used the store for
    /// this time.
    pub(super) fn rest_after(&self, used: Duration) -> Duration {
        self.rest_after_at(used, Instant::now())
    }

    fn rest_after_at(&self, used: Duration, now: Instant) -> Duration {
        let last = *self.usual_write();
        match last.is_some_and(|at| now.saturating_duration_since(at) < DECAY) {
            true => used.saturating_mul(REST).min(MAX_REST),
            false => Duration::ZERO,
        }
    }

    /// Adds usage of a credential.
    pub(super) fn charge(&self, credential: &CredentialId, used: Duration) {
        self.charge_at(credential, used, Instant::now());
    }

    fn charge_at(&self, credential: &CredentialId, used: Duration, now: Instant) {
        let mut of = self.of();
        // It suffices to do this at powers of two: there are no more entries than credentials.
        if of.len() >= 1024 && of.len().is_power_of_two() {
            of.retain(|_, used| used.now(now) > FORGOTTEN.as_secs_f64());
        }
        let before = of.get(credential).map_or(0.0, |used| used.now(now));
        let seconds = before + used.as_secs_f64();
        of.insert(credential.clone(), Used { seconds, at: now });
    }
}

/// Returns the processor time of this thread.
pub(super) fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heavy_credential_has_low_priority_for_a_while() {
        let credential = |name: &str| CredentialId::parse(&format!("12-{name}@b.c")).unwrap();
        let (usage, start) = (Usage::default(), Instant::now());
        let (busy, usual) = (credential("busy"), credential("usual"));
        for n in 0..100 {
            let now = start + Duration::from_millis(100) * n;
            usage.charge_at(&busy, Duration::from_millis(10), now);
            usage.charge_at(&usual, Duration::from_millis(1), now);
        }
        let end = start + Duration::from_secs(10);
        assert!(usage.is_heavy_at(&busy, end));
        assert!(!usage.is_heavy_at(&usual, end));
        assert!(!usage.is_heavy_at(&credential("other"), end));
        assert!(!usage.is_heavy_at(&busy, end + Duration::from_secs(2)));
        for n in 0..1100 {
            usage.charge_at(&credential(&n.to_string()), FORGOTTEN, end + 60 * DECAY);
        }
        assert!(!usage.of().contains_key(&busy), "it is forgotten");
        assert!(thread_time() > Duration::ZERO);
    }

    #[test]
    fn writers_that_give_way_rest_while_others_write() {
        let (usage, write) = (Usage::default(), Duration::from_millis(2));
        assert_eq!(usage.rest_after(write), Duration::ZERO);
        usage.note_usual_write();
        let now = Instant::now();
        assert_eq!(usage.rest_after_at(write, now), REST * write);
        assert_eq!(usage.rest_after_at(Duration::from_secs(9), now), MAX_REST);
        assert_eq!(usage.rest_after_at(write, now + DECAY), Duration::ZERO);
    }
}
