//! The WebSocket of one connection, for a task that both reads and writes.
//!
//! `tokio-tungstenite` also serves a reader and a writer in different tasks: each call registers two wakers,
//! and each event of the stream wakes both. One task needs the protocol only, which `tungstenite` has.

use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tungstenite::Message;
use tungstenite::error::Error;
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};

/// A WebSocket of the server over a stream.
pub(super) struct Socket<S> {
    stream: S,
    protocol: WebSocketContext,
    /// Number of bytes read from the stream.
    read: u64,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    /// Creates the WebSocket of a stream. `read` has been read from it already.
    pub(super) fn new(stream: S, read: Vec<u8>, config: WebSocketConfig) -> Self {
        let count = read.len() as u64;
        let protocol = WebSocketContext::from_partially_read(read, Role::Server, Some(config));
        Self { stream, protocol, read: count }
    }

    /// Returns the number of bytes that the peer has sent.
    pub(super) fn bytes_read(&self) -> u64 {
        self.read
    }

    /// Calls a function of the protocol. It is pending if the stream has nothing to read, or takes no
    /// more.
    fn poll_call<T>(
        &mut self,
        cx: &mut Context<'_>,
        call: impl FnOnce(&mut WebSocketContext, &mut BlockingStream<'_, '_, S>) -> Result<T, Error>,
    ) -> Poll<Result<T, Error>> {
        let Self { stream, protocol, read } = self;
        match call(protocol, &mut BlockingStream { stream, read, cx }) {
            Err(Error::Io(e)) if e.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            result => Poll::Ready(result),
        }
    }

    /// Reads a message, and answers pings and close frames. Returns `None` when the connection is closed.
    pub(super) fn poll_message(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Message, Error>>> {
        self.poll_call(cx, |protocol, stream| protocol.read(stream)).map(|read| match read {
            Err(Error::ConnectionClosed | Error::AlreadyClosed) => None,
            read => Some(read),
        })
    }

    /// Writes a message as far as the stream takes it. [`Self::poll_flush`] writes the rest.
    pub(super) fn start_send(
        &mut self,
        cx: &mut Context<'_>,
        message: Message,
    ) -> Result<(), Error> {
        match self.poll_call(cx, |protocol, stream| protocol.write(stream, message)) {
            Poll::Ready(written) => written,
            Poll::Pending => Ok(()),
        }
    }

    /// Writes what is left of the messages.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.poll_call(cx, |protocol, stream| protocol.flush(stream)).map(|flushed| match flushed {
            // All was written before.
            Err(Error::ConnectionClosed) => Ok(()),
            flushed => flushed,
        })
    }

    /// Sends a last message.
    pub(super) async fn send(&mut self, message: Message) -> Result<(), Error> {
        poll_fn(|cx| self.poll_flush(cx)).await?;
        let mut message = Some(message);
        poll_fn(|cx| {
            if let Some(message) = message.take() {
                self.start_send(cx, message)?;
            }
            self.poll_flush(cx)
        })
        .await
    }
}

/// A stream as the protocol uses it, within one poll of the task.
struct BlockingStream<'a, 'b, S> {
    stream: &'a mut S,
    read: &'a mut u64,
    cx: &'a mut Context<'b>,
}

fn or_would_block<T>(polled: Poll<io::Result<T>>) -> io::Result<T> {
    match polled {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

impl<S: AsyncRead + Unpin> Read for BlockingStream<'_, '_, S> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let mut out = ReadBuf::new(out);
        or_would_block(Pin::new(&mut *self.stream).poll_read(self.cx, &mut out))?;
        let length = out.filled().len();
        *self.read += length as u64;
        Ok(length)
    }
}

impl<S: AsyncWrite + Unpin> Write for BlockingStream<'_, '_, S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        or_would_block(Pin::new(&mut *self.stream).poll_write(self.cx, bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        or_would_block(Pin::new(&mut *self.stream).poll_flush(self.cx))
    }
}
