//! How long a call computes, where it also waits.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

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
}

impl Computing {
    pub fn new() -> Self {
        Self { start: Instant::now(), over: AtomicU64::new(0), since: AtomicU64::new(0) }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// What the call has computed so far; to be asked from within it.
    pub fn so_far(&self) -> Duration {
        let under_way = self.now().saturating_sub(self.since.load(Ordering::Relaxed)).min(SLICE);
        Duration::from_nanos(self.over.load(Ordering::Relaxed).saturating_add(under_way))
    }

    /// Awaits a call, and counts.
    pub async fn count<T>(&self, call: impl Future<Output = T>) -> T {
        let mut call = pin!(call);
        poll_fn(|context| {
            self.since.store(self.now(), Ordering::Relaxed);
            let polled = call.as_mut().poll(context);
            let so_far = self.so_far().as_nanos();
            self.over.store(u64::try_from(so_far).unwrap_or(u64::MAX), Ordering::Relaxed);
            polled
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let (waited, kept_off, computed) = computing.count(call).await;
        assert!(waited <= Duration::from_millis(10), "{waited:?}");
        assert!(kept_off <= Duration::from_millis(20), "{kept_off:?}");
        assert!(computed >= Duration::from_millis(50), "{computed:?}");
    }
}
