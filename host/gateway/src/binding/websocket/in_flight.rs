//! Requests of one connection that are carried out.

use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};

/// Futures that are carried out at a time. The task polls a single one itself, as most connections have one
/// at a time: among several, each gets a waker of its own, so that only those that are woken are polled.
pub(super) struct InFlight<'a, T> {
    single: Option<BoxFuture<'a, T>>,
    /// Empty while there is a single one.
    several: FuturesUnordered<BoxFuture<'a, T>>,
}

impl<'a, T> InFlight<'a, T> {
    /// Creates an empty set.
    pub(super) fn new() -> Self {
        Self { single: None, several: FuturesUnordered::new() }
    }

    /// Returns whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.single.is_none() && self.several.is_empty()
    }

    /// Adds one. The task must poll the set afterwards.
    pub(super) fn push(&mut self, future: BoxFuture<'a, T>) {
        if self.is_empty() {
            self.single = Some(future);
            return;
        }
        self.several.extend(self.single.take());
        self.several.push(future);
    }

    /// Returns the next result. Pending if there is none.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<T> {
        if let Some(single) = &mut self.single {
            let polled = single.as_mut().poll(cx);
            if polled.is_ready() {
                self.single = None;
            }
            return polled;
        }
        match self.several.poll_next_unpin(cx) {
            Poll::Ready(Some(result)) => Poll::Ready(result),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::Wake;

    use futures_util::FutureExt as _;
    use tokio::sync::oneshot;

    use super::*;

    struct Woken(std::sync::atomic::AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }

    #[test]
    fn results_come_as_they_are_ready() {
        let woken = Arc::new(Woken(0.into()));
        let waker = Arc::clone(&woken).into();
        let mut cx = Context::from_waker(&waker);
        let mut in_flight = InFlight::new();
        let mut senders = Vec::new();
        for count in [1, 2, 3] {
            assert!(in_flight.is_empty());
            for _ in 0..count {
                let (sender, receiver) = oneshot::channel();
                in_flight.push(receiver.map(Result::unwrap).boxed());
                // The first one is polled alone before there are others.
                assert!(in_flight.poll_next(&mut cx).is_pending());
                senders.push(sender);
            }
            while let Some(sender) = senders.pop() {
                let before = woken.0.load(std::sync::atomic::Ordering::Relaxed);
                let number = senders.len();
                sender.send(number).unwrap();
                assert!(woken.0.load(std::sync::atomic::Ordering::Relaxed) > before);
                assert_eq!(in_flight.poll_next(&mut cx), Poll::Ready(number));
                assert!(in_flight.poll_next(&mut cx).is_pending());
            }
        }
    }
}
