//! The CPU time of a call that also waits.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// Most that counts of one poll. A call yields at each tick of the epoch, so a poll that took longer was
/// kept from the processor by others.
const MAX_POLL_NANOS: u64 = 10_000_000; // nanoseconds

/// The computing time of a call: what passes while it is polled. Who waits is not polled.
pub(crate) struct CpuTime {
    start: Instant,
    /// Nanoseconds of polls that are over.
    over: AtomicU64,
    /// When the poll under way began, in nanoseconds since `start`.
    since: AtomicU64,
    /// Whether the last poll ended because its slice was over.
    yielded: AtomicBool,
}

impl CpuTime {
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
        let under_way =
            self.now().saturating_sub(self.since.load(Ordering::Relaxed)).min(MAX_POLL_NANOS);
        Duration::from_nanos(self.over.load(Ordering::Relaxed).saturating_add(under_way))
    }

    /// The call is about to let others have the processor; it has not ended to compute.
    pub fn yields(&self) {
        self.yielded.store(true, Ordering::Relaxed);
    }

    /// Polls the call, and counts the time that it takes.
    pub fn poll<T>(
        &self,
        call: Pin<&mut impl Future<Output = T>>,
        context: &mut Context<'_>,
    ) -> Poll<T> {
        self.since.store(self.now(), Ordering::Relaxed);
        let polled = call.poll(context);
        let so_far = self.so_far().as_nanos();
        self.over.store(u64::try_from(so_far).unwrap_or(u64::MAX), Ordering::Relaxed);
        polled
    }

    /// Returns whether the last poll ended because its slice was over.
    pub fn take_yielded(&self) -> bool {
        self.yielded.swap(false, Ordering::Relaxed)
    }
}
