//! A stream that holds the ClientKeyExchange back until the credential lookup has finished.
//!
//! OpenSSL requests the key of an identity in a synchronous callback. In TLS 1.2 the
//! ClientKeyExchange is not encrypted, so this stream between socket and OpenSSL can read the
//! identity first. It starts the lookup when the message is complete, and releases the record when
//! the lookup has finished. No thread blocks.
//!
//! The alert of a handshake that fails after a lookup is delayed to a multiple of
//! `ALERT_INTERVAL`. Otherwise its time would reveal how long the lookup took: a known identity
//! with a wrong key takes longer than an unknown one.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::Instant;

use crate::readiness::{Layer, Socket};

/// Content type of handshake records.
const HANDSHAKE: u8 = 22;
/// Message type of a ClientKeyExchange.
const CLIENT_KEY_EXCHANGE: u8 = 16;
/// Maximum size of a ClientKeyExchange, in bytes: an identity and a key share.
const MAX_MESSAGE: usize = 4096;
/// Maximum size of a record with its header. OpenSSL rejects larger ones.
const MAX_RECORD: usize = 5 + (1 << 14) + 2048;

/// Interval of alerts after the start of a lookup. It is far longer than the lookup of a module
/// without I/O.
const ALERT_INTERVAL: Duration = Duration::from_millis(20);

/// Maximum size of a delayed alert, in bytes: a record with two bytes, which may be encrypted.
const MAX_ALERT: usize = 256;

/// Content type of alerts.
const ALERT: u8 = 21;

/// A pending lookup. It stores its result for the engine's callback.
pub type LookupFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

enum State<L> {
    /// The ClientKeyExchange has not arrived.
    Inspecting(Option<L>),
    /// The lookup is pending.
    LookingUp(LookupFuture),
    /// All records pass through.
    Released,
}

/// A stream that inspects the handshake and delays the ClientKeyExchange.
pub struct ClientKeyExchangeGate<S, L> {
    socket: S,
    /// Absent when the handshake has succeeded and all its bytes have been read: an association lasts
    /// far longer.
    handshake: Option<Box<Handshake<L>>>,
}

/// The state of the gate during the handshake.
struct Handshake<L> {
    state: State<L>,
    /// Bytes from the socket, from the start of a record on, that were not inspected yet.
    incoming: Vec<u8>,
    /// Released bytes; initially the first flight.
    ready: Vec<u8>,
    read: usize,
    /// Handshake messages after the ClientHello.
    messages: Vec<u8>,
    /// Start of the lookup, until the handshake has finished.
    asked: Option<Instant>,
    /// The delayed alert.
    alert: Vec<u8>,
    has_succeeded: bool,
}

impl<L> Handshake<L>
where
    L: FnOnce(&[u8]) -> LookupFuture,
{
    /// Inspects the record at the start of `incoming`. Returns `false` if it is not complete.
    fn inspect_record(&mut self) -> bool {
        let Some((content_type, content, length)) = record(&self.incoming) else { return false };
        if content_type != HANDSHAKE {
            self.release_all();
            return true;
        }
        self.messages.extend_from_slice(content);
        match identity(&self.messages) {
            ParsedIdentity::Incomplete => self.release(length),
            ParsedIdentity::Other => self.release_all(),
            ParsedIdentity::Identity(identity) => {
                if let State::Inspecting(ask) = &mut self.state
                    && let Some(ask) = ask.take()
                {
                    self.asked = Some(Instant::now());
                    self.state = State::LookingUp(ask(identity));
                }
            }
        }
        true
    }
}

impl<L> Handshake<L> {
    /// Releases the first `length` bytes.
    fn release(&mut self, length: usize) {
        self.ready.clear();
        self.read = 0;
        self.ready.extend(self.incoming.drain(..length.min(self.incoming.len())));
    }

    /// Releases everything from now on. Without a lookup there is no key, so records that were not
    /// inspected cannot complete a handshake.
    fn release_all(&mut self) {
        self.ready = std::mem::take(&mut self.incoming);
        self.read = 0;
        self.messages = Vec::new();
        self.state = State::Released;
    }

    /// Returns the released bytes that have not been read.
    fn unread(&self) -> &[u8] {
        self.ready.get(self.read..).unwrap_or_default()
    }
}

impl<S, L> ClientKeyExchangeGate<S, L> {
    /// Creates a stream that yields `first_flight` before the bytes of the socket, and calls `ask`
    /// with the bytes of the psk_identity.
    pub fn new(socket: S, first_flight: Vec<u8>, ask: L) -> Self {
        let handshake = Handshake {
            state: State::Inspecting(Some(ask)),
            incoming: Vec::new(),
            ready: first_flight,
            read: 0,
            messages: Vec::new(),
            asked: None,
            alert: Vec::new(),
            has_succeeded: false,
        };
        Self { socket, handshake: Some(Box::new(handshake)) }
    }

    /// Delays no alerts from now on, because the handshake has succeeded.
    pub fn finished(&mut self) {
        if let Some(handshake) = &mut self.handshake {
            handshake.asked = None;
            handshake.has_succeeded = true;
        }
    }
}

impl<S: Socket, L> Layer for ClientKeyExchangeGate<S, L> {
    type Socket = S;

    fn socket(&self) -> &S {
        &self.socket
    }
}

impl<S: AsyncWrite + Unpin, L> ClientKeyExchangeGate<S, L> {
    /// Sends the delayed alert, if any, at its time.
    pub async fn send_alert(&mut self) {
        if let Some(handshake) = &mut self.handshake
            && let Some(asked) = handshake.asked.take()
            && !handshake.alert.is_empty()
        {
            tokio::time::sleep_until(next_alert(asked, Instant::now())).await;
            // The peer may have closed the connection already.
            let _ = self.socket.write_all(&handshake.alert).await;
            let _ = self.socket.flush().await;
        }
    }
}

/// Returns the time at which an alert that is due at `now` is sent, after a lookup that began at
/// `asked`.
fn next_alert(asked: Instant, now: Instant) -> Instant {
    let passed = now.duration_since(asked).as_nanos() / ALERT_INTERVAL.as_nanos();
    let intervals = u32::try_from(passed).unwrap_or(u32::MAX).saturating_add(1);
    asked + ALERT_INTERVAL.saturating_mul(intervals)
}

/// Returns the content type, content and total length of the record at the start of `bytes`, if it
/// is complete. A record that is too long counts as one of another type.
fn record(bytes: &[u8]) -> Option<(u8, &[u8], usize)> {
    let [content_type, _, _, a, b, rest @ ..] = bytes else { return None };
    let length = usize::from(u16::from_be_bytes([*a, *b]));
    if length + 5 > MAX_RECORD {
        return Some((0, &[], bytes.len()));
    }
    rest.get(..length).map(|content| (*content_type, content, length + 5))
}

#[derive(Debug, PartialEq, Eq)]
enum ParsedIdentity<'a> {
    /// The message is not complete.
    Incomplete,
    /// The message is not a ClientKeyExchange with an identity.
    Other,
    /// The identity of a complete ClientKeyExchange.
    Identity(&'a [u8]),
}

/// Returns the psk_identity of a ClientKeyExchange (RFC 4279 clause 2). RFC 5489 and the others
/// have it at the same position.
fn identity(messages: &[u8]) -> ParsedIdentity<'_> {
    let [kind, a, b, c, body @ ..] = messages else {
        return if matches!(messages.first(), None | Some(&CLIENT_KEY_EXCHANGE)) {
            ParsedIdentity::Incomplete
        } else {
            ParsedIdentity::Other
        };
    };
    let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
    if *kind != CLIENT_KEY_EXCHANGE || length > MAX_MESSAGE {
        return ParsedIdentity::Other;
    }
    let Some(body) = body.get(..length) else { return ParsedIdentity::Incomplete };
    match body {
        [a, b, rest @ ..] => match rest.get(..usize::from(u16::from_be_bytes([*a, *b]))) {
            Some(identity) => ParsedIdentity::Identity(identity),
            None => ParsedIdentity::Other,
        },
        _ => ParsedIdentity::Other,
    }
}

impl<S, L> AsyncRead for ClientKeyExchangeGate<S, L>
where
    S: AsyncRead + Unpin,
    L: FnOnce(&[u8]) -> LookupFuture + Unpin,
{
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { socket, handshake } = self.get_mut();
        while let Some(pending) = handshake {
            let unread = pending.unread();
            if !unread.is_empty() {
                let part = unread.get(..out.remaining()).unwrap_or(unread);
                let length = part.len();
                out.put_slice(part);
                pending.read += length;
                return Poll::Ready(Ok(()));
            }
            match &mut pending.state {
                State::Released if pending.has_succeeded => *handshake = None,
                State::Released => break,
                State::LookingUp(answering) => {
                    ready!(answering.as_mut().poll(cx));
                    pending.release_all();
                }
                State::Inspecting(_) => {
                    if pending.inspect_record() {
                        continue;
                    }
                    let mut chunk = [0; 2048];
                    let mut buffer = ReadBuf::new(&mut chunk);
                    ready!(Pin::new(&mut *socket).poll_read(cx, &mut buffer))?;
                    if buffer.filled().is_empty() {
                        pending.state = State::Released;
                        return Poll::Ready(Ok(()));
                    }
                    pending.incoming.extend_from_slice(buffer.filled());
                }
            }
        }
        Pin::new(socket).poll_read(cx, out)
    }
}

impl<S, L> AsyncWrite for ClientKeyExchangeGate<S, L>
where
    S: AsyncWrite + Unpin,
    L: Unpin,
{
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Self { socket, handshake } = self.get_mut();
        if let Some(pending) = handshake
            && pending.asked.is_some()
            && bytes.first() == Some(&ALERT)
            && pending.alert.len() + bytes.len() <= MAX_ALERT
        {
            pending.alert.extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        Pin::new(socket).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
#[path = "client_key_exchange_gate_tests.rs"]
mod tests;
