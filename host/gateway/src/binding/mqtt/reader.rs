//! Reads control packets from a stream.

use std::future::poll_fn;
use std::io::ErrorKind;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use saegis_onem2m::mqtt::packet::{self, Packet, PacketError};
use tokio::io::{AsyncRead, AsyncReadExt as _, ReadBuf};
use tokio::time::{Instant, timeout_at};

/// Minimum and maximum number of bytes that the buffer grows by. A packet gets its memory as it comes,
/// not as it is announced.
const MIN_GROWTH: usize = 512;
const MAX_GROWTH: usize = 16 << 10;

/// Maximum number of bytes of the first read of a packet.
const MAX_FIRST: usize = 2 << 10;

/// Why there is no packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadError {
    Packet(PacketError),
    /// The packet did not come whole within the timeout.
    Late,
    Closed,
    Broken,
}

impl ReadError {
    /// Returns the reason for the log.
    pub(super) fn why(self) -> &'static str {
        match self {
            Self::Packet(PacketError::TooLarge) => "packet too large",
            Self::Packet(PacketError::Malformed) => "bad MQTT",
            Self::Packet(PacketError::Version) => "other version of MQTT",
            Self::Late => "the packet did not come in time",
            Self::Closed => "closed",
            Self::Broken => "broken",
        }
    }
}

/// Reads the packets of a client.
pub(super) struct PacketReader<R> {
    stream: R,
    buffer: BytesMut,
    /// When the last packet was complete.
    last_packet: Instant,
    /// Since when there has been a packet that is not complete.
    incomplete_since: Option<Instant>,
    /// Timeout for a packet to come whole.
    timeout: Duration,
}

impl<R: AsyncRead + Unpin> PacketReader<R> {
    /// Reads from a stream. A packet must come whole within the timeout.
    pub(super) fn new(stream: R, timeout: Duration) -> Self {
        let (buffer, last_packet) = (BytesMut::new(), Instant::now());
        Self { stream, buffer, last_packet, incomplete_since: None, timeout }
    }

    /// Reads a packet of at most `max` bytes. Nothing that was read is lost if the future is dropped.
    pub(super) async fn next(&mut self, max: usize) -> Result<Packet, ReadError> {
        loop {
            let length = packet::length(&self.buffer, max).map_err(ReadError::Packet)?;
            if let Some(length) = length
                && length <= self.buffer.len()
            {
                return self.take(length).map_err(ReadError::Packet);
            }
            let read = match self.incomplete_since {
                None => self.read_first().await,
                Some(since) => {
                    let missing = length.unwrap_or_default().saturating_sub(self.buffer.len());
                    self.buffer.reserve(missing.clamp(MIN_GROWTH, MAX_GROWTH));
                    let reading = self.stream.read_buf(&mut self.buffer);
                    // Boxed, because an idle client does not need its memory.
                    let in_time = Box::pin(timeout_at(since + self.timeout, reading)).await;
                    in_time.map_err(|_| ReadError::Late)?
                }
            };
            match read {
                Ok(0) => return Err(ReadError::Closed),
                Ok(_) => {
                    self.incomplete_since.get_or_insert_with(Instant::now);
                }
                Err(e) if e.kind() == ErrorKind::UnexpectedEof => return Err(ReadError::Closed),
                Err(_) => return Err(ReadError::Broken),
            }
        }
    }

    /// Reads the start of a packet. There is no buffer while nothing has arrived.
    async fn read_first(&mut self) -> std::io::Result<usize> {
        poll_fn(|cx| {
            let mut first = [MaybeUninit::uninit(); MAX_FIRST];
            let mut first = ReadBuf::uninit(&mut first);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut first))?;
            self.buffer.extend_from_slice(first.filled());
            Poll::Ready(Ok(first.filled().len()))
        })
        .await
    }

    fn take(&mut self, length: usize) -> Result<Packet, PacketError> {
        let bytes = self.buffer.split_to(length);
        self.last_packet = Instant::now();
        self.incomplete_since = None;
        if self.buffer.is_empty() {
            // An idle client has no buffer.
            self.buffer = BytesMut::new();
        } else {
            self.incomplete_since = Some(self.last_packet);
        }
        packet::decode(&bytes)
    }

    /// When the last packet was complete.
    pub(super) fn last_packet(&self) -> Instant {
        self.last_packet
    }

    /// Restarts the times. The client was not read from until now.
    pub(super) fn resume(&mut self) {
        self.last_packet = Instant::now();
        self.incomplete_since = self.incomplete_since.map(|_| self.last_packet);
    }
}
