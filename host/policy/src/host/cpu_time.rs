//! CPU time of a call that can also wait.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// Maximum time that is counted for one poll, in nanoseconds. A call yields at each epoch tick, so
/// in a longer poll other threads used the processor.
const MAX_POLL_NANOS: u64 = 10_000_000;

/// CPU time of a call: the time in which it is polled. A waiting call is not polled.
pub(crate) struct CpuTime {
    start: Instant,
    /// Time of completed polls, in nanoseconds.
    finished: AtomicU64,
    /// Start of the current poll, in nanoseconds since `start`.
    poll_start: AtomicU64,
    /// Whether the last poll ended at the end of its time slice.
    yielded: AtomicBool,
}

impl CpuTime {
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
            finished: AtomicU64::new(0),
            poll_start: AtomicU64::new(0),
            yielded: AtomicBool::new(false),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Returns the CPU time so far. Must be called within the call.
    pub fn elapsed(&self) -> Duration {
        let under_way =
            self.now().saturating_sub(self.poll_start.load(Ordering::Relaxed)).min(MAX_POLL_NANOS);
        Duration::from_nanos(self.finished.load(Ordering::Relaxed).saturating_add(under_way))
    }

    /// Records that the call is about to yield the processor, and continues to compute afterwards.
    pub fn note_yield(&self) {
        self.yielded.store(true, Ordering::Relaxed);
    }

    /// Polls the call, and counts the time.
    pub fn poll<T>(
        &self,
        call: Pin<&mut impl Future<Output = T>>,
        context: &mut Context<'_>,
    ) -> Poll<T> {
        self.poll_start.store(self.now(), Ordering::Relaxed);
        let polled = call.poll(context);
        let so_far = self.elapsed().as_nanos();
        self.finished.store(u64::try_from(so_far).unwrap_or(u64::MAX), Ordering::Relaxed);
        polled
    }

    /// Returns and resets whether the last poll ended at the end of its time slice.
    pub fn take_yielded(&self) -> bool {
        self.yielded.swap(false, Ordering::Relaxed)
    }
}
