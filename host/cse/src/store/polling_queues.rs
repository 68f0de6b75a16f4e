//! The queues of polling channels (TS-0001 clause 9.6.21): messages for AEs that fetch them, and
//! the polls of these AEs.
//!
//! The queues are in memory. Notifications of subscriptions that were not fetched are sent again
//! after a restart; other messages are lost when the CSE ends, as are those that were sent to an AE
//! and not received. If a queue is full, its oldest messages are dropped.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use crate::receipts::Receipt;

/// Maximum number and total size of messages in one queue.
pub(crate) const MAX_MESSAGES: usize = 100;
const MAX_QUEUE_BYTES: usize = 256 << 10;

/// Maximum total size of messages in all queues, in bytes.
const MAX_TOTAL_BYTES: usize = 16 << 20;

/// The queues by the resource-IDs of their channels. A channel has a queue while it has a message
/// or a poll.
#[derive(Debug, Default)]
pub(crate) struct PollingQueues(Mutex<Queues>);

/// A message in a queue. Its notification is settled when it leaves the queue.
#[derive(Debug)]
pub(crate) struct QueuedMessage {
    /// Request primitive, an `m2m:rqp`.
    pub(crate) request: Bytes,
    /// Receipt of its notification.
    pub(crate) receipt: Receipt,
}

impl From<Bytes> for QueuedMessage {
    fn from(request: Bytes) -> Self {
        Self { request, receipt: Receipt::default() }
    }
}

#[derive(Debug, Default)]
struct Queues {
    queues: HashMap<String, Queue>,
    bytes: usize,
    /// Number of the last poll at any channel.
    last: u64,
}

#[derive(Debug, Default)]
struct Queue {
    messages: VecDeque<QueuedMessage>,
    bytes: usize,
    /// Number of the only poll that waits, the last one.
    waits: Option<u64>,
    waker: Option<Waker>,
}

impl Queue {
    fn is_idle(&self) -> bool {
        self.messages.is_empty() && self.waits.is_none()
    }
}

impl Queues {
    fn take(&mut self, channel: &str) -> Option<Bytes> {
        let queue = self.queues.get_mut(channel)?;
        let QueuedMessage { request, receipt } = queue.messages.pop_front()?;
        queue.bytes -= request.len();
        self.bytes -= request.len();
        receipt.settled();
        Some(request)
    }
}

impl PollingQueues {
    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a message into a channel's queue, and wakes its poll. Returns whether the message was
    /// accepted.
    pub(crate) fn put(&self, channel: &str, message: impl Into<QueuedMessage>) -> bool {
        let message = message.into();
        let size = message.request.len();
        let mut all = self.lock();
        if size > MAX_QUEUE_BYTES {
            message.receipt.settled();
            return false;
        }
        let too_much = |queue: &Queue| {
            queue.messages.len() >= MAX_MESSAGES || queue.bytes + size > MAX_QUEUE_BYTES
        };
        while all.queues.get(channel).is_some_and(too_much) {
            all.take(channel);
        }
        if all.bytes + size > MAX_TOTAL_BYTES {
            message.receipt.failed();
            return false;
        }
        message.receipt.held();
        all.bytes += size;
        let queue = all.queues.entry(channel.into()).or_default();
        queue.bytes += size;
        queue.messages.push_back(message);
        let waker = queue.waker.take();
        drop(all);
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    /// Drops the queues of channels that do not exist.
    pub(crate) fn retain(&self, mut is_there: impl FnMut(&str) -> bool) {
        // Called without the lock, because the lookup may take time.
        let known: Vec<_> = self.lock().queues.keys().cloned().collect();
        for channel in known.into_iter().filter(|c| !is_there(c)) {
            let mut all = self.lock();
            while all.take(&channel).is_some() {}
            if all.queues.get(&channel).is_some_and(Queue::is_idle) {
                all.queues.remove(&channel);
            }
        }
    }

    /// Waits at a channel, and replaces a former poll.
    pub(crate) fn wait(self: &Arc<Self>, channel: String) -> Waiting {
        let mut all = self.lock();
        all.last += 1;
        let number = all.last;
        let queue = all.queues.entry(channel.clone()).or_default();
        queue.waits = Some(number);
        let waker = queue.waker.take();
        drop(all);
        if let Some(waker) = waker {
            waker.wake();
        }
        Waiting { queues: self.clone(), channel, number }
    }
}

/// A poll at a channel, until it is dropped.
#[derive(Debug)]
pub(crate) struct Waiting {
    queues: Arc<PollingQueues>,
    channel: String,
    number: u64,
}

impl Waiting {
    /// Polls for the next message. Completes with `None` if another poll has replaced this one.
    pub(crate) fn poll(&self, context: &Context<'_>) -> Poll<Option<Bytes>> {
        let mut all = self.queues.lock();
        match all.queues.get(&self.channel) {
            Some(queue) if queue.waits == Some(self.number) => {}
            _ => return Poll::Ready(None),
        }
        if let Some(message) = all.take(&self.channel) {
            return Poll::Ready(Some(message));
        }
        if let Some(queue) = all.queues.get_mut(&self.channel) {
            queue.waker = Some(context.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut all = self.queues.lock();
        let Some(queue) = all.queues.get_mut(&self.channel) else { return };
        if queue.waits == Some(self.number) {
            queue.waits = None;
            queue.waker = None;
        }
        if queue.is_idle() {
            all.queues.remove(&self.channel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl std::task::Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn look(waiting: &Waiting, wakes: &Arc<Wakes>) -> Poll<Option<Bytes>> {
        waiting.poll(&Context::from_waker(&wakes.clone().into()))
    }

    fn text(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    #[test]
    fn waiting_poll_is_woken() {
        let (channels, wakes) = (Arc::<PollingQueues>::default(), Arc::<Wakes>::default());
        let waiting = channels.wait("a".into());
        assert_eq!(look(&waiting, &wakes), Poll::Pending);
        assert!(channels.put("b", text("other")));
        assert_eq!(wakes.0.load(Ordering::SeqCst), 0);
        assert!(channels.put("a", text("one")));
        assert!(channels.put("a", text("two")));
        assert_eq!(wakes.0.load(Ordering::SeqCst), 1);
        assert_eq!(look(&waiting, &wakes), Poll::Ready(Some(text("one"))));
        drop(waiting);
        let waiting = channels.wait("a".into());
        assert_eq!(look(&waiting, &wakes), Poll::Ready(Some(text("two"))));
        assert_eq!(look(&waiting, &wakes), Poll::Pending);
    }

    #[test]
    fn latest_poll_replaces_earlier_one() {
        let (channels, wakes) = (Arc::<PollingQueues>::default(), Arc::<Wakes>::default());
        let first = channels.wait("a".into());
        assert_eq!(look(&first, &wakes), Poll::Pending);
        let second = channels.wait("a".into());
        assert_eq!(wakes.0.load(Ordering::SeqCst), 1);
        assert_eq!(look(&first, &wakes), Poll::Ready(None));
        assert_eq!(look(&second, &wakes), Poll::Pending);
        // Dropping a replaced poll does not affect its successor.
        drop(first);
        assert!(channels.put("a", text("one")));
        assert_eq!(look(&second, &wakes), Poll::Ready(Some(text("one"))));
    }

    #[test]
    fn queues_are_bounded_and_leave_nothing() {
        let channels = Arc::<PollingQueues>::default();
        for n in 0..MAX_MESSAGES + 10 {
            assert!(channels.put("a", Bytes::from(n.to_string())));
        }
        assert_eq!(channels.lock().queues["a"].messages.len(), MAX_MESSAGES);
        assert_eq!(channels.lock().queues["a"].messages[0].request, "10");
        let large = Bytes::from(vec![0; MAX_QUEUE_BYTES]);
        assert!(channels.put("a", large.clone()));
        assert_eq!(channels.lock().queues["a"].messages.len(), 1);
        assert!(!channels.put("a", Bytes::from(vec![0; MAX_QUEUE_BYTES + 1])));
        for n in 1..MAX_TOTAL_BYTES / MAX_QUEUE_BYTES {
            assert!(channels.put(&n.to_string(), large.clone()));
        }
        assert!(!channels.put("one more", text("x")));
        assert_eq!(channels.lock().bytes, MAX_TOTAL_BYTES);
        drop(channels.wait("waited at".into()));
        channels.retain(|channel| channel == "1");
        let all = channels.lock();
        assert_eq!((all.queues.len(), all.bytes), (1, MAX_QUEUE_BYTES));
    }
}
