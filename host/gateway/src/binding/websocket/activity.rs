//! Activity of a connection: the times that its timeouts depend on.

use std::io;
use std::pin::Pin;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// Length of the header of a masked control frame, in bytes.
const CONTROL_HEADER: usize = 6;

/// Times of a connection, for its timeouts.
#[derive(Debug)]
pub(super) struct Activity(Mutex<State>);

#[derive(Debug)]
struct State {
    /// When something came.
    last_read: Instant,
    /// When a primitive came or went.
    last_primitive: Instant,
    /// Bytes that have been read.
    read: u64,
    /// Bytes of messages that are complete.
    complete: u64,
    /// Since when there has been a message that is not.
    incomplete_since: Option<Instant>,
}

impl Activity {
    /// A connection on which so many bytes have been read.
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

    fn came(&self, bytes: usize) {
        self.change(|state| {
            let now = Instant::now();
            state.last_read = now;
            state.read += bytes as u64;
            if state.read > state.complete && state.incomplete_since.is_none() {
                state.incomplete_since = Some(now);
            }
        });
    }

    /// A ping or a pong with that much content has come whole. It may come between the fragments of
    /// another message.
    pub(super) fn control_frame(&self, content: usize) {
        self.change(|state| {
            state.complete += (CONTROL_HEADER + content) as u64;
            if state.complete >= state.read {
                state.incomplete_since = None;
            }
        });
    }

    /// A data message has come whole. Bytes behind it that were read with it count as complete too,
    /// which is a few kilobytes at most.
    pub(super) fn message(&self) {
        self.change(|state| {
            state.complete = state.read;
            state.incomplete_since = None;
            state.last_primitive = Instant::now();
        });
    }

    /// A primitive was sent.
    pub(super) fn sent(&self) {
        self.change(|state| state.last_primitive = Instant::now());
    }

    /// The peer was not listened to until now.
    pub(super) fn resume(&self) {
        self.change(|state| state.last_read = Instant::now());
    }

    /// When something came last.
    pub(super) fn last_read(&self) -> Instant {
        self.change(|state| state.last_read)
    }

    /// When a primitive came or went last.
    pub(super) fn last_primitive(&self) -> Instant {
        self.change(|state| state.last_primitive)
    }

    /// Whether a message has been incomplete for that long.
    pub(super) fn is_incomplete_for(&self, time: Duration) -> bool {
        self.change(|state| state.incomplete_since.is_some_and(|since| since.elapsed() >= time))
    }

    /// When a message that is incomplete began.
    pub(super) fn incomplete_since(&self) -> Option<Instant> {
        self.change(|state| state.incomplete_since)
    }
}

/// A stream that notes what comes over it.
pub(super) struct Noted<'a, S> {
    pub(super) stream: S,
    pub(super) activity: &'a Activity,
}

impl<S: AsyncRead + Unpin> AsyncRead for Noted<'_, S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = out.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, out);
        let bytes = out.filled().len() - before;
        if bytes > 0 {
            self.activity.came(bytes);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Noted<'_, S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_is_incomplete_until_all_of_it_has_come() {
        let activity = Activity::new(0);
        let is_incomplete = || activity.is_incomplete_for(Duration::ZERO);
        assert!(!is_incomplete());
        activity.came(10);
        assert!(is_incomplete());
        activity.message();
        assert!(!is_incomplete());
        activity.came(6);
        activity.control_frame(0);
        assert!(!is_incomplete());
        // A ping between two fragments completes nothing but itself.
        activity.came(100);
        activity.came(8);
        activity.control_frame(2);
        assert!(is_incomplete());
        activity.message();
        assert!(!is_incomplete());
        assert!(Activity::new(1).is_incomplete_for(Duration::ZERO));
    }
}
