//! A stream that replays bytes that were read from it before.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream that yields a prefix before the bytes of its socket.
pub struct PrefixedStream<S> {
    socket: S,
    first: Vec<u8>,
    read: usize,
}

impl<S> PrefixedStream<S> {
    /// Creates a stream that yields `first` before the bytes of the socket.
    #[must_use]
    pub fn new(socket: S, first: Vec<u8>) -> Self {
        Self { socket, first, read: 0 }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for PrefixedStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match this.first.get(this.read..) {
            Some(rest) if !rest.is_empty() => {
                let part = rest.get(..out.remaining()).unwrap_or(rest);
                out.put_slice(part);
                this.read += part.len();
                if this.read == this.first.len() {
                    (this.first, this.read) = (Vec::new(), 0);
                }
                Poll::Ready(Ok(()))
            }
            _ => Pin::new(&mut this.socket).poll_read(cx, out),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PrefixedStream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}
