//! A stream that lets other tasks run between the parts of a large message.
//!
//! The TLS engines encrypt all bytes of a write at once. A response of megabytes would block its
//! thread for milliseconds, and with it other connections.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Maximum size of a part, in bytes: one TLS record.
const MAX_PART: usize = 16 << 10;

/// A stream that writes in parts.
pub struct YieldingWriter<S> {
    stream: S,
    /// Bytes written since the last flush, or since other tasks ran.
    written: usize,
}

impl<S> YieldingWriter<S> {
    /// Wraps a stream.
    pub fn new(stream: S) -> Self {
        Self { stream, written: 0 }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for YieldingWriter<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, out)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for YieldingWriter<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.written >= MAX_PART {
            self.written = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let part = bytes.get(..MAX_PART).unwrap_or(bytes);
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, part))?;
        self.written += written;
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.written = 0;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    #[test]
    fn other_tasks_run_between_parts_of_large_message() {
        let (near, _far) = duplex(1 << 20);
        let mut writer = YieldingWriter::new(near);
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..2 {
            let mut write = |length| {
                let written = Pin::new(&mut writer).poll_write(&mut cx, &vec![1; length]);
                written.map(Result::unwrap)
            };
            assert_eq!(write(10), Poll::Ready(10));
            assert_eq!(write(100_000), Poll::Ready(MAX_PART));
            assert_eq!(write(100_000), Poll::Pending);
            assert_eq!(write(100_000), Poll::Ready(MAX_PART));
            assert!(Pin::new(&mut writer).poll_flush(&mut cx).is_ready());
        }
    }

    #[tokio::test]
    async fn large_message_is_written_completely() {
        let (near, mut far) = duplex(1 << 10);
        let mut writer = YieldingWriter::new(near);
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
