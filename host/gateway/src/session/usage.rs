//! How much of the gateway each credential has used of late: time of the embedded CSE and of the
//! checks of its requests. The requests of one that uses much give way to those of the others.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::Pin;
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
pub const COMMIT_COST: Duration = Duration::from_millis(1);

/// Cost of a refused request in addition to the time of its checks: it is read, answered, and recorded
/// in the audit trail.
const REFUSAL_COST: Duration = Duration::from_micros(100);

/// Maximum time that a refusal is held back.
const MAX_REFUSAL_DELAY: Duration = Duration::from_secs(1);

/// Rest of a credential that gives way, as a multiple of the time of its write, and its maximum. Without
/// it, many small writes would use the whole disk and a processor.
const REST: u32 = 9;
const MAX_REST: Duration = Duration::from_millis(250);

/// Usage of each credential.
#[derive(Debug, Default)]
pub struct Usage {
    of: Mutex<HashMap<CredentialId, Used>>,
    /// Time of the last write of a credential that did not give way.
    usual_write: Mutex<Option<Instant>>,
    /// The two credentials that used the gateway last without giving way, and when they did.
    usual: Mutex<[Option<(CredentialId, Instant)>; 2]>,
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
    pub fn is_heavy(&self, credential: &CredentialId) -> bool {
        self.is_heavy_at(credential, Instant::now())
    }

    fn is_heavy_at(&self, credential: &CredentialId, now: Instant) -> bool {
        self.of().get(credential).is_some_and(|used| used.now(now) > HEAVY.as_secs_f64())
    }

    fn usual_write(&self) -> MutexGuard<'_, Option<Instant>> {
        self.usual_write.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a write of a credential that does not give way.
    pub fn note_usual_write(&self) {
        *self.usual_write() = Some(Instant::now());
    }

    /// Returns how long a credential that gives way rests after one of its writers has had the store
    /// for this time.
    pub fn rest_after(&self, used: Duration) -> Duration {
        self.rest_after_at(used, Instant::now())
    }

    fn rest_after_at(&self, used: Duration, now: Instant) -> Duration {
        let last = *self.usual_write();
        match last.is_some_and(|at| now.saturating_duration_since(at) < DECAY) {
            true => used.saturating_mul(REST).min(MAX_REST),
            false => Duration::ZERO,
        }
    }

    /// Adds the cost of a refused request. Returns how long the refusal is held back: while others use
    /// the gateway, until the usage of the credential has decayed so far that it does not give way.
    /// Otherwise many refused requests would use all processors.
    pub fn charge_refusal(&self, credential: &CredentialId) -> Duration {
        self.charge_refusal_at(credential, Instant::now())
    }

    fn charge_refusal_at(&self, credential: &CredentialId, now: Instant) -> Duration {
        let used = self.charge_at(credential, REFUSAL_COST, now);
        if !self.has_others_at(credential, now) {
            return Duration::ZERO;
        }
        let excess = (used / HEAVY.as_secs_f64()).ln().max(0.0);
        DECAY.mul_f64(excess).min(MAX_REFUSAL_DELAY)
    }

    /// Returns whether another credential has used the gateway of late without giving way.
    fn has_others_at(&self, credential: &CredentialId, now: Instant) -> bool {
        let usual = self.usual();
        let mut others = usual.iter().flatten().filter(|(other, _)| other != credential);
        others.any(|(_, at)| now.saturating_duration_since(*at) < DECAY)
    }

    fn usual(&self) -> MutexGuard<'_, [Option<(CredentialId, Instant)>; 2]> {
        self.usual.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_usual(&self, credential: &CredentialId, now: Instant) {
        let [last, before] = &mut *self.usual();
        match last {
            Some((own, at)) if own == credential => *at = now,
            _ => *before = last.replace((credential.clone(), now)),
        }
    }

    /// Adds usage of a credential.
    pub fn charge(&self, credential: &CredentialId, used: Duration) {
        self.charge_at(credential, used, Instant::now());
    }

    /// Returns the usage in seconds with what was added.
    fn charge_at(&self, credential: &CredentialId, used: Duration, now: Instant) -> f64 {
        let mut of = self.of();
        // It suffices to do this at powers of two: there are no more entries than credentials.
        if of.len() >= 1024 && of.len().is_power_of_two() {
            of.retain(|_, used| used.now(now) > FORGOTTEN.as_secs_f64());
        }
        let before = of.get(credential).map_or(0.0, |used| used.now(now));
        let seconds = before + used.as_secs_f64();
        of.insert(credential.clone(), Used { seconds, at: now });
        drop(of);
        if seconds <= HEAVY.as_secs_f64() {
            self.note_usual(credential, now);
        }
        seconds
    }
}

/// Runs `work`, and passes the processor time that it takes to `charge`, also when it is dropped
/// before its end. A large future is boxed by the caller: each function that takes one by value has
/// room for it twice.
pub async fn metered<T>(
    mut work: impl Future<Output = T> + Unpin,
    mut charge: impl FnMut(Duration),
) -> T {
    poll_fn(|context| {
        let start = thread_time();
        let polled = Pin::new(&mut work).poll(context);
        charge(thread_time().saturating_sub(start));
        polled
    })
    .await
}

/// Returns the processor time of this thread.
pub fn thread_time() -> Duration {
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
    fn refusals_of_heavy_credential_are_held_back() {
        let credential = |name: &str| CredentialId::parse(&format!("12-{name}@b.c")).unwrap();
        let (busy, usual) = (credential("busy"), credential("usual"));
        let (usage, mut now) = (Usage::default(), Instant::now());
        for _ in 0..1000 {
            assert!(usage.charge_refusal_at(&busy, now).is_zero(), "there is nobody else");
        }
        now += 60 * DECAY;
        usage.charge_at(&usual, COMMIT_COST, now);
        let mut refusals = 0;
        while usage.charge_refusal_at(&busy, now).is_zero() {
            refusals += 1;
        }
        assert_eq!(refusals, 500, "a few are answered at once");
        // From then on, refusals use a twentieth of a processor.
        let (start, mut used) = (now, Duration::ZERO);
        for _ in 0..1000 {
            now += usage.charge_refusal_at(&busy, now);
            used += REFUSAL_COST;
            usage.charge_at(&usual, Duration::ZERO, now);
        }
        assert!(used < (now - start).mul_f64(1.1 * HEAVY.as_secs_f64()), "{used:?}");
        usage.charge_at(&busy, Duration::from_secs(9), now);
        assert_eq!(usage.charge_refusal_at(&busy, now), MAX_REFUSAL_DELAY);
        assert!(usage.charge_refusal_at(&busy, now + DECAY).is_zero(), "the others have stopped");
        assert!(usage.charge_refusal_at(&usual, now).is_zero());
    }

    #[tokio::test]
    async fn metered_time_is_that_of_the_work() {
        let work = async {
            let start = thread_time();
            while thread_time().saturating_sub(start) < Duration::from_millis(2) {}
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let mut used = Duration::ZERO;
        metered(Box::pin(work), |time| used += time).await;
        assert!(used >= Duration::from_millis(2));
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
