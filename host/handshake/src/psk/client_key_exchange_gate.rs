//! A stream that holds the ClientKeyExchange back until a look-up has answered.
//!
//! OpenSSL asks for the key of an identity in a callback that can't wait. But in TLS 1.2 the
//! identity is in plain sight in the ClientKeyExchange, so this stream, which stands between the
//! socket and OpenSSL, reads along: when that message is complete it starts the look-up, and lets
//! the record through when the answer is there. No thread waits.
//!
//! The alert of a handshake that fails after a look-up is kept until a time that does not tell how long
//! the look-up took: a known identity with a wrong key takes longer than an unknown one.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::Instant;

/// Content type of handshake records.
const HANDSHAKE: u8 = 22;
/// Message type of a ClientKeyExchange.
const CLIENT_KEY_EXCHANGE: u8 = 16;
/// Largest ClientKeyExchange, in bytes: an identity and a key share.
const MAX_MESSAGE: usize = 4096;
/// Largest record with its header; what is larger OpenSSL may refuse.
const MAX_RECORD: usize = 5 + (1 << 14) + 2048;

/// From the start of a look-up to the alert that follows it, or the time until the next multiple of that:
/// far longer than the look-ups of modules that do not wait.
const ALERT_INTERVAL: Duration = Duration::from_millis(20);

/// Longest alert that is kept, in bytes: a record with two bytes, which may be encrypted.
const MAX_ALERT: usize = 256;

/// Content type of alerts.
const ALERT: u8 = 21;

/// A look-up under way. It leaves its answer where the engine's callback finds it.
pub type LookupFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

enum State<L> {
    /// Looking for the ClientKeyExchange.
    Watching(Option<L>),
    /// The look-up is under way.
    Asking(LookupFuture),
    /// Nothing to do any more.
    Through,
}

/// The stream.
pub struct ClientKeyExchangeGate<S, L> {
    socket: S,
    state: State<L>,
    /// What has been read from the socket, from a record's start on, and not been looked at.
    incoming: Vec<u8>,
    /// What may be read: at first the first flight.
    ready: Vec<u8>,
    read: usize,
    /// The handshake messages seen so far behind the ClientHello.
    messages: Vec<u8>,
    /// When the look-up began, until the handshake is over.
    asked: Option<Instant>,
    /// The alert that is kept.
    alert: Vec<u8>,
}

impl<S, L> ClientKeyExchangeGate<S, L>
where
    L: FnOnce(&[u8]) -> LookupFuture,
{
    /// A stream that gives `first_flight` before what comes from the socket, and calls `ask` with
    /// the bytes of the psk_identity.
    pub fn new(socket: S, first_flight: Vec<u8>, ask: L) -> Self {
        Self {
            socket,
            state: State::Watching(Some(ask)),
            incoming: Vec::new(),
            ready: first_flight,
            read: 0,
            messages: Vec::new(),
            asked: None,
            alert: Vec::new(),
        }
    }

    /// Looks at the record at the start of `incoming`. False when it is not complete.
    fn look(&mut self) -> bool {
        let Some((content_type, content, length)) = record(&self.incoming) else { return false };
        if content_type != HANDSHAKE {
            self.pass_all();
            return true;
        }
        self.messages.extend_from_slice(content);
        match identity(&self.messages) {
            Seen::More => self.pass(length),
            Seen::Other => self.pass_all(),
            Seen::Identity(identity) => {
                if let State::Watching(ask) = &mut self.state
                    && let Some(ask) = ask.take()
                {
                    self.asked = Some(Instant::now());
                    self.state = State::Asking(ask(identity));
                }
            }
        }
        true
    }

    /// Lets the first `length` bytes through.
    fn pass(&mut self, length: usize) {
        self.ready.clear();
        self.read = 0;
        self.ready.extend(self.incoming.drain(..length.min(self.incoming.len())));
    }

    /// Lets everything through from now on. Without an answer from the look-up there is no key,
    /// so whatever passes here unseen leads nowhere.
    fn pass_all(&mut self) {
        self.ready = std::mem::take(&mut self.incoming);
        self.read = 0;
        self.messages = Vec::new();
        self.state = State::Through;
    }
}

impl<S, L> ClientKeyExchangeGate<S, L> {
    /// Keeps no alert from now on, for the handshake has succeeded.
    pub fn finished(&mut self) {
        self.asked = None;
    }
}

impl<S: AsyncWrite + Unpin, L> ClientKeyExchangeGate<S, L> {
    /// Sends the alert that was kept, if one was, when it is time.
    pub async fn send_alert(&mut self) {
        if let Some(asked) = self.asked.take()
            && !self.alert.is_empty()
        {
            tokio::time::sleep_until(next_alert(asked, Instant::now())).await;
            // Whether it hears it is up to the peer.
            let _ = self.socket.write_all(&self.alert).await;
            let _ = self.socket.flush().await;
        }
    }
}

/// When an alert is sent that is due now, after a look-up that began at `asked`.
fn next_alert(asked: Instant, now: Instant) -> Instant {
    let passed = now.duration_since(asked).as_nanos() / ALERT_INTERVAL.as_nanos();
    let intervals = u32::try_from(passed).unwrap_or(u32::MAX).saturating_add(1);
    asked + ALERT_INTERVAL.saturating_mul(intervals)
}

/// Content type, content and whole length of the record at the start of `bytes`, if it is
/// complete. A record longer than may be counts as one of another type.
fn record(bytes: &[u8]) -> Option<(u8, &[u8], usize)> {
    let [content_type, _, _, a, b, rest @ ..] = bytes else { return None };
    let length = usize::from(u16::from_be_bytes([*a, *b]));
    if length + 5 > MAX_RECORD {
        return Some((0, &[], bytes.len()));
    }
    rest.get(..length).map(|content| (*content_type, content, length + 5))
}

#[derive(Debug, PartialEq, Eq)]
enum Seen<'a> {
    /// More is to come.
    More,
    /// This is no ClientKeyExchange that could name an identity.
    Other,
    /// The identity of a complete ClientKeyExchange.
    Identity(&'a [u8]),
}

/// Reads the psk_identity out of a ClientKeyExchange (RFC 4279 clause 2; RFC 5489 and the others
/// put theirs in the same place).
fn identity(messages: &[u8]) -> Seen<'_> {
    let [kind, a, b, c, body @ ..] = messages else {
        return if matches!(messages.first(), None | Some(&CLIENT_KEY_EXCHANGE)) {
            Seen::More
        } else {
            Seen::Other
        };
    };
    let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
    if *kind != CLIENT_KEY_EXCHANGE || length > MAX_MESSAGE {
        return Seen::Other;
    }
    let Some(body) = body.get(..length) else { return Seen::More };
    match body {
        [a, b, rest @ ..] => match rest.get(..usize::from(u16::from_be_bytes([*a, *b]))) {
            Some(identity) => Seen::Identity(identity),
            None => Seen::Other,
        },
        _ => Seen::Other,
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
        let this = self.get_mut();
        loop {
            if let Some(rest) = this.ready.get(this.read..).filter(|rest| !rest.is_empty()) {
                let part = rest.get(..out.remaining()).unwrap_or(rest);
                out.put_slice(part);
                this.read += part.len();
                return Poll::Ready(Ok(()));
            }
            match &mut this.state {
                State::Through => {
                    if this.ready.capacity() > 0 {
                        this.ready = Vec::new();
                        this.read = 0;
                    }
                    return Pin::new(&mut this.socket).poll_read(cx, out);
                }
                State::Asking(answering) => {
                    ready!(answering.as_mut().poll(cx));
                    this.pass_all();
                }
                State::Watching(_) => {
                    if this.look() {
                        continue;
                    }
                    let mut chunk = [0; 2048];
                    let mut buffer = ReadBuf::new(&mut chunk);
                    ready!(Pin::new(&mut this.socket).poll_read(cx, &mut buffer))?;
                    if buffer.filled().is_empty() {
                        this.state = State::Through;
                        return Poll::Ready(Ok(()));
                    }
                    this.incoming.extend_from_slice(buffer.filled());
                }
            }
        }
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
        let this = self.get_mut();
        if this.asked.is_some()
            && bytes.first() == Some(&ALERT)
            && this.alert.len() + bytes.len() <= MAX_ALERT
        {
            this.alert.extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        Pin::new(&mut this.socket).poll_write(cx, bytes)
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
