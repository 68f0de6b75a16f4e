//! Messages that one part of a task queues, and another part writes.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;

/// A queue within one task. Nothing wakes the task for a message, so the part that writes is polled
/// after the part that queues, whenever the task is.
pub(super) struct Outbox<T>(Mutex<VecDeque<T>>);

impl<T> Default for Outbox<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Outbox<T> {
    fn queue(&self) -> MutexGuard<'_, VecDeque<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a message.
    pub(super) fn push(&self, message: T) {
        self.queue().push_back(message);
    }

    /// Waits for a message.
    pub(super) async fn next(&self) -> T {
        poll_fn(|_| {
            let mut queue = self.queue();
            match queue.pop_front() {
                Some(message) => Poll::Ready(message),
                None => {
                    // An idle connection has no buffer.
                    *queue = VecDeque::new();
                    Poll::Pending
                }
            }
        })
        .await
    }
}
