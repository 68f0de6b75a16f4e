//! How long a call computes, where it also waits.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use crate::sandbox::slots::{Caller, Slots};

/// Most that counts of one poll. A call yields at each tick of the epoch, so a poll that took longer was
/// kept from the processor by others.
const SLICE: u64 = 10_000_000; // nanoseconds

/// The computing time of a call: what passes while it is polled. Who waits is not polled.
pub(crate) struct Computing {
    start: Instant,
    /// Nanoseconds of polls that are over.
    over: AtomicU64,
    /// When the poll under way began, in nanoseconds since `start`.
    since: AtomicU64,
    /// Whether the last poll ended because its slice was over.
    yielded: AtomicBool,
}

impl Computing {
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
            over: AtomicU64::new(0),
            since: AtomicU64::new(0),
            yielded: AtomicBool::new(false),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// What the call has computed so far; to be asked from within it.
    pub fn so_far(&self) -> Duration {
        let under_way = self.now().saturating_sub(self.since.load(Ordering::Relaxed)).min(SLICE);
        Duration::from_nanos(self.over.load(Ordering::Relaxed).saturating_add(under_way))
    }

    /// The call is about to let others have the processor; it has not ended to compute.
    pub fn yields(&self) {
        self.yielded.store(true, Ordering::Relaxed);
    }

    /// Awaits a call, and counts. While it computes it has one of `places`, so that those who compute
    /// are few, however many wait.
    pub async fn count<T>(
        &self,
        (places, caller): (&Slots, Caller),
        call: impl Future<Output = T>,
    ) -> T {
        let mut call = pin!(call);
        let mut place = None;
        loop {
            if place.is_none() {
                // They are never closed.
                place = places.wait(caller).await.ok();
            }
            let polled = poll_fn(|context| {
                self.since.store(self.now(), Ordering::Relaxed);
                let polled = call.as_mut().poll(context);
                let so_far = self.so_far().as_nanos();
                self.over.store(u64::try_from(so_far).unwrap_or(u64::MAX), Ordering::Relaxed);
                Poll::Ready(polled)
            });
            if let Poll::Ready(done) = polled.await {
                return done;
            }
            if !self.yielded.swap(false, Ordering::Relaxed) {
                place = None;
            }
            // Whoever the call waits for wakes this task, and it is polled again.
            let mut woken = false;
            poll_fn(|_| {
                if std::mem::replace(&mut woken, true) { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one_place() -> Slots {
        Slots::new(1, 1, None)
    }

    #[tokio::test]
    async fn waiting_is_no_computing() {
        let computing = Computing::new();
        let call = async {
            tokio::time::sleep(Duration::from_millis(60)).await;
            let waited = computing.so_far();
            // As if others had the processor: it counts as one slice.
            std::thread::sleep(Duration::from_millis(100));
            let kept_off = computing.so_far();
            for _ in 0..5 {
                tokio::task::yield_now().await;
                std::thread::sleep(Duration::from_millis(10));
            }
            (waited, kept_off, computing.so_far())
        };
        let (waited, kept_off, computed) =
            computing.count((&one_place(), Caller::Association), call).await;
        assert!(waited <= Duration::from_millis(10), "{waited:?}");
        assert!(kept_off <= Duration::from_millis(20), "{kept_off:?}");
        assert!(computed >= Duration::from_millis(50), "{computed:?}");
    }

    /// A call that computes for three slices, and tells when it is at it.
    async fn computes(places: &Slots, at_it: &AtomicU64) {
        let computing = Computing::new();
        let call = async {
            assert_eq!(at_it.fetch_add(1, Ordering::Relaxed), 0, "one at a time");
            for _ in 0..3 {
                computing.yields();
                tokio::task::yield_now().await;
            }
            at_it.fetch_sub(1, Ordering::Relaxed);
        };
        computing.count((places, Caller::Association), call).await;
    }

    #[tokio::test]
    async fn those_who_compute_are_as_many_as_there_are_places() {
        let (places, at_it) = (one_place(), AtomicU64::new(0));
        let one = || computes(&places, &at_it);
        tokio::join!(one(), one(), one(), one());
    }

    #[tokio::test]
    async fn who_waits_has_no_place() {
        let places = one_place();
        let begun = Instant::now();
        let waits = || async {
            let computing = Computing::new();
            let caller = Caller::Association;
            computing
                .count((&places, caller), tokio::time::sleep(Duration::from_millis(200)))
                .await;
        };
        tokio::join!(waits(), waits(), waits(), waits(), waits());
        assert!(begun.elapsed() < Duration::from_millis(800), "{:?}", begun.elapsed());
    }
}
