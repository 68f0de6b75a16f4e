//! A bounded queue of requests to an AE, which is small while it is empty: most connections are idle.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use saegis_onem2m::primitive::RequestPrimitive;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::PollSemaphore;

/// The sending end.
pub(super) struct RequestSender(Arc<Queue>);

/// The receiving end. Dropped, the queue takes no requests.
pub struct RequestReceiver {
    queue: Arc<Queue>,
    /// Permits for requests that have been received, created for the first one.
    permits: Option<PollSemaphore>,
}

/// The receiving end is gone.
pub(super) struct Closed;

struct Queue {
    slots: Semaphore,
    queued: Mutex<Queued>,
}

#[derive(Default)]
struct Queued {
    requests: VecDeque<Box<RequestPrimitive>>,
    /// Waits for a request.
    receiver: Option<Waker>,
}

impl Queue {
    fn queued(&self) -> MutexGuard<'_, Queued> {
        self.queued.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Creates a queue of at most `capacity` requests.
pub(super) fn request_queue(capacity: usize) -> (RequestSender, RequestReceiver) {
    let queue = Queue { slots: Semaphore::new(capacity), queued: Mutex::default() };
    let queue = Arc::new(queue);
    (RequestSender(queue.clone()), RequestReceiver { queue, permits: None })
}

impl RequestSender {
    /// Waits for a free slot, and queues a request.
    ///
    /// # Errors
    /// Fails if the receiving end is gone.
    pub(super) async fn send(&self, request: Box<RequestPrimitive>) -> Result<(), Closed> {
        let Self(queue) = self;
        let slot = queue.slots.acquire().await.map_err(|_| Closed)?;
        // The receiving end frees the slot.
        slot.forget();
        let receiver = {
            let mut queued = queue.queued();
            queued.requests.push_back(request);
            queued.receiver.take()
        };
        receiver.into_iter().for_each(Waker::wake);
        Ok(())
    }
}

impl RequestReceiver {
    /// Waits for a request. Nothing is lost if the future is dropped.
    pub async fn recv(&mut self) -> Box<RequestPrimitive> {
        let request = poll_fn(|cx| self.poll(cx, VecDeque::pop_front)).await;
        self.queue.slots.add_permits(1);
        request
    }

    /// Polls for a request, and for a permit for it: at most `max` requests have one at a time. Nothing is
    /// lost if the request is not polled again.
    pub fn poll_recv_with(
        &mut self,
        cx: &mut Context<'_>,
        max: usize,
    ) -> Poll<Option<(OwnedSemaphorePermit, Box<RequestPrimitive>)>> {
        ready!(self.poll(cx, |requests| (!requests.is_empty()).then_some(())));
        let new = || PollSemaphore::new(Arc::new(Semaphore::new(max)));
        // The semaphore is never closed.
        let Some(permit) = ready!(self.permits.get_or_insert_with(new).poll_acquire(cx)) else {
            return Poll::Ready(None);
        };
        let Some(request) = self.queue.queued().requests.pop_front() else {
            return Poll::Ready(None);
        };
        self.queue.slots.add_permits(1);
        Poll::Ready(Some((permit, request)))
    }

    /// Returns a value of the queue, or wakes the task for the next request.
    fn poll<T>(
        &self,
        cx: &mut Context<'_>,
        give: impl Fn(&mut VecDeque<Box<RequestPrimitive>>) -> Option<T>,
    ) -> Poll<T> {
        let mut queued = self.queue.queued();
        if let Some(value) = give(&mut queued.requests) {
            return Poll::Ready(value);
        }
        // An idle connection has no buffer.
        queued.requests = VecDeque::new();
        match &mut queued.receiver {
            Some(receiver) => receiver.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

/// Waits for a permit. Only a future that has to wait gets memory for it.
pub async fn acquire(permits: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    match permits.clone().try_acquire_owned() {
        Ok(permit) => Some(permit),
        Err(_) => Box::pin(permits.clone().acquire_owned()).await.ok(),
    }
}

impl Drop for RequestReceiver {
    fn drop(&mut self) {
        self.queue.slots.close();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use saegis_onem2m::primitive::Operation;
    use saegis_onem2m::target::Target;

    use super::*;

    fn request(id: usize) -> Box<RequestPrimitive> {
        let to = Target::from_address("Clight-AE1").unwrap();
        let id = id.to_string();
        Box::new(RequestPrimitive::own(Operation::Notify, to, "/mn-cse-123456".into(), id))
    }

    #[tokio::test]
    async fn full_queue_takes_request_after_another_was_received() {
        let (sender, mut receiver) = request_queue(2);
        for id in 0..2 {
            assert!(sender.send(request(id)).await.is_ok());
        }
        let mut third = Box::pin(sender.send(request(2)));
        assert!(third.as_mut().now_or_never().is_none());
        assert_eq!(receiver.recv().await.request_id, "0");
        assert!(third.await.is_ok());
        for id in ["1", "2"] {
            assert_eq!(receiver.recv().await.request_id, id);
        }
    }

    #[tokio::test]
    async fn abandoned_requests_take_no_slots() {
        let (sender, mut receiver) = request_queue(1);
        assert!(sender.send(request(0)).await.is_ok());
        let mut abandoned = Box::pin(sender.send(request(1)));
        assert!(abandoned.as_mut().now_or_never().is_none());
        drop(abandoned);
        assert_eq!(receiver.recv().await.request_id, "0");
        assert!(sender.send(request(2)).await.is_ok());
        assert_eq!(receiver.recv().await.request_id, "2");
    }

    #[tokio::test]
    async fn sender_does_not_wait_for_dropped_receiver() {
        let (sender, receiver) = request_queue(1);
        assert!(sender.send(request(0)).await.is_ok());
        let mut waiting = Box::pin(sender.send(request(1)));
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(receiver);
        assert!(waiting.await.is_err());
        assert!(sender.send(request(2)).await.is_err());
    }
}
