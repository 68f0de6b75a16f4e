//! CPU slots for calls that can also wait: a call holds one only while it computes.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use crate::host::cpu_time::CpuTime;
use crate::sandbox::slots::{Caller, Slots};

/// Awaits a call and counts its CPU time. While it computes, the call holds one of `slots`, which
/// limits the number of computing calls independent of the number of waiting ones.
pub(crate) async fn count<T>(
    cpu_time: &CpuTime,
    (slots, caller): (&Slots, Caller),
    call: impl Future<Output = T>,
) -> T {
    let mut call = pin!(call);
    let mut slot = None;
    loop {
        if slot.is_none() {
            // The slots are never closed.
            slot = slots.wait(caller).await.ok();
        }
        let polled = poll_fn(|context| Poll::Ready(cpu_time.poll(call.as_mut(), context)));
        if let Poll::Ready(done) = polled.await {
            return done;
        }
        if !cpu_time.take_yielded() {
            slot = None;
        }
        // The waker of the call wakes this task, which polls the call again.
        let mut woken = false;
        poll_fn(
            |_| {
                if std::mem::replace(&mut woken, true) { Poll::Ready(()) } else { Poll::Pending }
            },
        )
        .await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::{Duration, Instant};

    use super::*;

    fn one_slot() -> Slots {
        Slots::new(1, 1, None)
    }

    #[tokio::test]
    async fn waiting_is_no_cpu_time() {
        let cpu_time = CpuTime::new();
        let call = async {
            tokio::time::sleep(Duration::from_millis(60)).await;
            let waited = cpu_time.elapsed();
            // Simulates other threads using the processor: it counts as one time slice.
            std::thread::sleep(Duration::from_millis(100));
            let kept_off = cpu_time.elapsed();
            for _ in 0..5 {
                tokio::task::yield_now().await;
                std::thread::sleep(Duration::from_millis(10));
            }
            (waited, kept_off, cpu_time.elapsed())
        };
        let (waited, kept_off, computed) =
            count(&cpu_time, (&one_slot(), Caller::Association), call).await;
        assert!(waited <= Duration::from_millis(10), "{waited:?}");
        assert!(kept_off <= Duration::from_millis(20), "{kept_off:?}");
        assert!(computed >= Duration::from_millis(50), "{computed:?}");
    }

    /// A call that computes for three time slices and reports that it is running.
    async fn computes(places: &Slots, at_it: &AtomicU64) {
        let cpu_time = CpuTime::new();
        let call = async {
            assert_eq!(at_it.fetch_add(1, Ordering::Relaxed), 0, "one at a time");
            for _ in 0..3 {
                cpu_time.note_yield();
                tokio::task::yield_now().await;
            }
            at_it.fetch_sub(1, Ordering::Relaxed);
        };
        count(&cpu_time, (places, Caller::Association), call).await;
    }

    #[tokio::test]
    async fn computing_calls_are_limited_by_slots() {
        let (places, at_it) = (one_slot(), AtomicU64::new(0));
        let one = || computes(&places, &at_it);
        tokio::join!(one(), one(), one(), one());
    }

    #[tokio::test]
    async fn waiting_call_holds_no_slot() {
        let places = one_slot();
        let begun = Instant::now();
        let waits = || async {
            let cpu_time = CpuTime::new();
            let caller = Caller::Association;
            count(&cpu_time, (&places, caller), tokio::time::sleep(Duration::from_millis(200)))
                .await;
        };
        tokio::join!(waits(), waits(), waits(), waits(), waits());
        assert!(begun.elapsed() < Duration::from_millis(800), "{:?}", begun.elapsed());
    }
}
