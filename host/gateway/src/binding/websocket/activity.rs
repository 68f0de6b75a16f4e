//! Activity of a connection: the times that its timeouts depend on.

use std::future::poll_fn;
use std::sync::{Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Length of the header of a masked control frame, in bytes.
const CONTROL_HEADER: usize = 6;

/// Times of a connection, for its timeouts.
#[derive(Debug)]
pub(super) struct Activity(Mutex<State>);

#[derive(Debug)]
struct State {
    /// Time of the last read of bytes.
    last_read: Instant,
    /// Time at which the last primitive was received or sent.
    last_primitive: Instant,
    /// Number of bytes read.
    read: u64,
    /// Number of bytes of complete messages.
    complete: u64,
    /// Time since which a message is incomplete.
    incomplete_since: Option<Instant>,
}

impl Activity {
    /// Creates the times of a connection on which so many bytes have been read.
    pub(super) fn new(read: usize) -> Self {
        let now = Instant::now();
        let read = read as u64;
        let incomplete_since = (read > 0).then_some(now);
        Self(Mutex::new(State {
            last_read: now,
            last_primitive: now,
            read,
            complete: 0,
            incomplete_since,
        }))
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Records that bytes were read. Zero bytes are the end of the stream.
    pub(super) fn read(&self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        self.change(|state| {
            let now = Instant::now();
            state.last_read = now;
            state.read += bytes as u64;
            if state.read > state.complete && state.incomplete_since.is_none() {
                state.incomplete_since = Some(now);
            }
        });
    }

    /// Records that a ping or a pong with this length of content was received completely. It may be
    /// between the fragments of another message.
    pub(super) fn control_frame(&self, content: usize) {
        self.change(|state| {
            state.complete += (CONTROL_HEADER + content) as u64;
            if state.complete >= state.read {
                state.incomplete_since = None;
            }
        });
    }

    /// Records that a data message was received completely. Bytes after it that were read with it
    /// count as complete too: a few kilobytes at most.
    pub(super) fn message(&self) {
        self.change(|state| {
            state.complete = state.read;
            state.incomplete_since = None;
            state.last_primitive = Instant::now();
        });
    }

    /// Records that a primitive was sent.
    pub(super) fn sent(&self) {
        self.change(|state| state.last_primitive = Instant::now());
    }

    /// Restarts the time since the last read, after a period in which the gateway did not read.
    pub(super) fn resume(&self) {
        self.change(|state| state.last_read = Instant::now());
    }

    /// Returns the time of the last read of bytes.
    pub(super) fn last_read(&self) -> Instant {
        self.change(|state| state.last_read)
    }

    /// Returns the time at which the last primitive was received or sent.
    pub(super) fn last_primitive(&self) -> Instant {
        self.change(|state| state.last_primitive)
    }

    /// Waits until a message has been incomplete for this time. The caller polls this future after
    /// each read, and drops it when a message is complete.
    pub(super) async fn incomplete_for(&self, time: Duration) {
        let since = poll_fn(|_| match self.incomplete_since() {
            Some(since) => Poll::Ready(since),
            // A read wakes the task of the connection.
            None => Poll::Pending,
        });
        sleep_until(since.await + time).await;
    }

    /// Returns the time since which a message is incomplete.
    fn incomplete_since(&self) -> Option<Instant> {
        self.change(|state| state.incomplete_since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_is_incomplete_until_all_of_it_has_come() {
        let activity = Activity::new(0);
        let is_incomplete = || activity.incomplete_since().is_some();
        assert!(!is_incomplete());
        activity.read(10);
        assert!(is_incomplete());
        activity.message();
        assert!(!is_incomplete());
        activity.read(6);
        activity.control_frame(0);
        assert!(!is_incomplete());
        // A ping between two fragments completes nothing but itself.
        activity.read(100);
        activity.read(8);
        activity.control_frame(2);
        assert!(is_incomplete());
        activity.message();
        assert!(!is_incomplete());
        assert!(Activity::new(1).incomplete_since().is_some());
    }
}
