//! A stream that writes large messages part by part, in turn with those of other connections.
//!
//! The TLS engines encrypt all bytes of a write at once. A response of megabytes would block its
//! thread for milliseconds, and with it other connections. Many such responses at a time would do the
//! same, even in parts. So of all connections of a thread, one writes one part, and then other tasks
//! run.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::yield_now;
use tokio_util::sync::PollSemaphore;

/// Maximum size of a part, in bytes: one TLS record.
const MAX_PART: usize = 16 << 10;

/// The turns of the connections of a thread to write a part of a large message.
#[derive(Clone)]
pub struct WriteTurns(Arc<Semaphore>);

impl WriteTurns {
    /// Creates the turns of a thread.
    pub fn new() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

/// A stream that writes in parts.
pub struct YieldingWriter<S> {
    stream: S,
    /// Bytes written since the last read. The first part of a message needs no turn.
    written: usize,
    turns: PollSemaphore,
    /// Boxed, because most connections never write a large message.
    turn: Option<Box<Turn>>,
}

/// A turn, which lasts until other tasks have run.
struct Turn {
    _permit: OwnedSemaphorePermit,
    /// The wait for other tasks, after the part was written.
    yielding: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl<S> YieldingWriter<S> {
    /// Wraps a stream of the thread with these turns.
    pub fn new(stream: S, turns: &WriteTurns) -> Self {
        let turns = PollSemaphore::new(turns.0.clone());
        Self { stream, written: 0, turns, turn: None }
    }

    /// Waits for a turn to write one part.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(yielding) = self.turn.as_mut().and_then(|turn| turn.yielding.as_mut()) {
            ready!(yielding.as_mut().poll(cx));
            self.turn = None;
        }
        if self.turn.is_none() {
            // The semaphore is never closed.
            let permit = ready!(self.turns.poll_acquire(cx));
            self.turn = permit.map(|permit| Box::new(Turn { _permit: permit, yielding: None }));
        }
        Poll::Ready(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for YieldingWriter<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, out);
        if read.is_ready() {
            self.written = 0;
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for YieldingWriter<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.written >= MAX_PART {
            ready!(this.poll_turn(cx));
        }
        let part = bytes.get(..MAX_PART).unwrap_or(bytes);
        let written = Pin::new(&mut this.stream).poll_write(cx, part);
        match &written {
            Poll::Ready(Ok(length)) => {
                this.written += length;
                if let Some(turn) = &mut this.turn {
                    turn.yielding = Some(Box::pin(yield_now()));
                }
            }
            // A peer that does not read must not have the turn.
            Poll::Ready(Err(_)) | Poll::Pending => this.turn = None,
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.turn = None;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.turn = None;
        // It waits for no turn either.
        self.turns = PollSemaphore::new(self.turns.clone_inner());
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;

    fn write(writer: &mut YieldingWriter<DuplexStream>, length: usize) -> Poll<usize> {
        let mut cx = Context::from_waker(Waker::noop());
        let written = Pin::new(writer).poll_write(&mut cx, &vec![1; length]);
        written.map(Result::unwrap)
    }

    #[test]
    fn other_tasks_run_between_parts_of_large_message() {
        let (near, _far) = duplex(1 << 20);
        let mut writer = YieldingWriter::new(near, &WriteTurns::new());
        assert_eq!(write(&mut writer, 10), Poll::Ready(10));
        assert_eq!(write(&mut writer, 100_000), Poll::Ready(MAX_PART));
        for _ in 0..2 {
            assert_eq!(write(&mut writer, 100_000), Poll::Ready(MAX_PART));
            assert_eq!(write(&mut writer, 100_000), Poll::Pending);
        }
    }

    #[test]
    fn one_connection_at_a_time_writes_parts() {
        let turns = WriteTurns::new();
        let (near, _far) = duplex(1 << 20);
        let (unread, _peer) = duplex(2 * MAX_PART);
        let mut writers = [near, unread].map(|stream| YieldingWriter::new(stream, &turns));
        for writer in &mut writers {
            // The first part needs no turn.
            assert_eq!(write(writer, MAX_PART), Poll::Ready(MAX_PART));
        }
        let [one, other] = &mut writers;
        assert_eq!(write(other, MAX_PART), Poll::Ready(MAX_PART));
        assert_eq!(write(one, MAX_PART), Poll::Pending, "the other has the turn");
        assert_eq!(write(other, MAX_PART), Poll::Pending, "other tasks run");
        assert_eq!(write(other, MAX_PART), Poll::Pending, "the next turn is that of the first");
        assert_eq!(write(one, MAX_PART), Poll::Ready(MAX_PART));
        assert_eq!(write(one, MAX_PART), Poll::Pending, "other tasks run");
        assert_eq!(write(one, MAX_PART), Poll::Pending, "the next turn is that of the second");
        assert_eq!(write(other, MAX_PART), Poll::Pending, "its peer reads nothing");
        assert_eq!(write(one, MAX_PART), Poll::Ready(MAX_PART), "so it does not have the turn");
    }

    #[tokio::test]
    async fn large_message_is_written_completely() {
        let (near, mut far) = duplex(1 << 10);
        let mut writer = YieldingWriter::new(near, &WriteTurns::new());
        let message: Vec<u8> = (0..100_000_u32).map(|n| n.to_be_bytes()[3]).collect();
        let expected = message.clone();
        let writing = tokio::spawn(async move {
            writer.write_all(&message).await.unwrap();
            writer.shutdown().await.unwrap();
        });
        let mut read = Vec::new();
        far.read_to_end(&mut read).await.unwrap();
        writing.await.unwrap();
        assert_eq!(read, expected);
    }
}
