//! Reads from OpenSSL only if the socket may have something to read.
//!
//! A connection is looked at whenever its task runs, such as when the CSE has responded. OpenSSL takes a
//! buffer for a record and fails for each look that finds nothing.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::TcpStream;
use tokio_openssl::SslStream;

/// A socket that TLS runs over.
pub trait Socket: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// Waits until there may be something to read.
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()>;
}

impl Socket for TcpStream {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        // After an error, reading returns it.
        self.poll_read_ready(cx).map(drop)
    }
}

/// It does not know.
impl Socket for DuplexStream {
    fn poll_readable(&self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}

/// A layer between OpenSSL and its socket.
pub(crate) trait Layer {
    type Socket: Socket;

    fn socket(&self) -> &Self::Socket;
}

/// A stream of OpenSSL.
pub(crate) struct ReadinessStream<T> {
    pub(crate) tls: SslStream<T>,
    /// All that the socket had has been read, so OpenSSL has no bytes of a complete record.
    is_drained: bool,
}

impl<T> ReadinessStream<T> {
    pub(crate) fn new(tls: SslStream<T>) -> Self {
        Self { tls, is_drained: false }
    }
}

impl<T: Layer + AsyncRead + AsyncWrite + Unpin> AsyncRead for ReadinessStream<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.is_drained {
            ready!(this.tls.get_ref().socket().poll_readable(cx));
        }
        let read = Pin::new(&mut this.tls).poll_read(cx, out);
        this.is_drained = read.is_pending();
        read
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for ReadinessStream<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().tls).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tls).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tls).poll_shutdown(cx)
    }
}
