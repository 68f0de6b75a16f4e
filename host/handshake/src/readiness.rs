//! Reads from OpenSSL only if the socket may have something to read.
//!
//! A connection is looked at whenever its task runs, such as when the CSE has responded. OpenSSL takes a
//! buffer for a record and fails for each look that finds nothing. It reads ahead, so the records that it
//! has are counted below it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use openssl::error::ErrorStack;
use openssl::ssl::Ssl;
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
    pub(crate) tls: SslStream<RecordCounter<T>>,
    /// OpenSSL has no bytes of a complete record.
    is_drained: bool,
}

impl<T: AsyncRead + AsyncWrite + Unpin> ReadinessStream<T> {
    /// Creates the stream of a session over a layer.
    ///
    /// # Errors
    /// Fails if OpenSSL cannot allocate it.
    pub(crate) fn new(ssl: Ssl, layer: T) -> Result<Self, ErrorStack> {
        let tls = SslStream::new(ssl, RecordCounter { layer, records: Records::default() })?;
        Ok(Self { tls, is_drained: false })
    }

    /// Returns the layer below OpenSSL.
    pub(crate) fn layer(&mut self) -> &mut T {
        &mut self.tls.get_mut().layer
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
            ready!(this.tls.get_ref().layer.socket().poll_readable(cx));
        }
        let before = out.filled().len();
        let read = Pin::new(&mut this.tls).poll_read(cx, out);
        this.is_drained = match &read {
            // OpenSSL asked for more bytes.
            Poll::Pending => true,
            Poll::Ready(Ok(())) if out.filled().len() > before => {
                let is_record_read = this.tls.ssl().pending() == 0;
                is_record_read && this.tls.get_ref().records.is_last()
            }
            Poll::Ready(_) => false,
        };
        if this.is_drained {
            this.tls.get_mut().records.complete = 0;
        }
        read
    }
}

/// The layer below OpenSSL, whose records are counted.
pub(crate) struct RecordCounter<T> {
    layer: T,
    records: Records,
}

/// The records of a stream.
#[derive(Debug, Default)]
struct Records {
    /// Number of bytes of the current header.
    header: usize,
    /// Length in that header.
    length: usize,
    /// Number of missing bytes of the current record, after its header.
    rest: usize,
    /// Number of complete records that OpenSSL may not have processed.
    complete: usize,
}

/// Length of the header of a record, in bytes.
const HEADER: usize = 5;

impl Records {
    /// Counts the records in the next bytes.
    fn count(&mut self, mut bytes: &[u8]) {
        while let Some((&byte, after)) = bytes.split_first() {
            if self.header < HEADER {
                bytes = after;
                self.header += 1;
                // The length is in the last two bytes.
                self.length = (self.length << 8 | usize::from(byte)) & 0xffff;
                self.rest = if self.header == HEADER { self.length } else { 0 };
            } else {
                let part = self.rest.min(bytes.len());
                bytes = bytes.get(part..).unwrap_or_default();
                self.rest -= part;
            }
            if self.header == HEADER && self.rest == 0 {
                self.header = 0;
                self.complete += 1;
            }
        }
    }

    /// Returns whether nothing follows a single record.
    fn is_last(&self) -> bool {
        self.complete == 1 && self.header == 0
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for RecordCounter<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = out.filled().len();
        let read = Pin::new(&mut self.layer).poll_read(cx, out);
        self.records.count(out.filled().get(before..).unwrap_or_default());
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for RecordCounter<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.layer).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.layer).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.layer).poll_shutdown(cx)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_counted_in_parts_of_any_size() {
        let record = |length: u8| [&[23, 3, 3, 0, length][..], &vec![0; length.into()]].concat();
        let records = [record(3), record(0), record(200)].concat();
        for size in 1..records.len() {
            let mut counted = Records::default();
            for (number, part) in records.chunks(size).enumerate() {
                counted.count(part);
                let read = (number * size + part.len()).min(records.len());
                let complete = [8, 13, 218].iter().filter(|end| **end <= read).count();
                assert_eq!(counted.complete, complete, "{size}: {read}");
                assert_eq!(counted.header == 0, [8, 13, 218].contains(&read), "{size}: {read}");
                assert_eq!(counted.is_last(), read == 8, "{size}: {read}");
            }
        }
        let mut long = Records::default();
        long.count(&[23, 3, 3, 0x40, 1]);
        long.count(&[0; 0x4000]);
        assert_eq!(long.complete, 0);
        long.count(&[0]);
        assert!(long.is_last());
        long.count(&[23]);
        assert!(!long.is_last(), "another record follows");
    }
}
