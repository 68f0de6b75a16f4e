//! Writes the messages of one connection, one after the other.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use saegis_onem2m::serialization::Serialization;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Sleep, sleep};
use tungstenite::Message;
use tungstenite::error::Error;
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{Data, OpCode};

use super::activity::Activity;
use super::socket::Socket;
use crate::binding::primitives::{Encoded, Held};

/// Maximum size of a frame that is sent, in bytes. Larger messages are sent in fragments, because the
/// buffer for a frame lasts as long as the connection.
pub(super) const MAX_FRAME: usize = 32 << 10;

/// Minimum rate at which a peer reads, in bytes a second, beyond the time for the first part.
const MIN_READ_RATE: u64 = 1024;

/// Something that is to be sent.
pub(super) enum Outgoing {
    Primitive(Encoded),
    Ping,
}

/// The messages that are to be sent.
pub(super) struct Writer {
    opcode: OpCode,
    /// Timeout for the peer to read the next part of a message.
    timeout: Duration,
    current: Option<Sending>,
    /// Those after the current one. Bounded by the permits that they hold.
    queue: VecDeque<Outgoing>,
}

/// A message that is being sent.
struct Sending {
    /// The part that was not passed to the socket.
    rest: Bytes,
    /// The memory and the permit of a primitive. A ping has none.
    held: Option<Held>,
    opcode: OpCode,
    /// The frame that was passed to the socket and may not be written completely.
    frame: Option<SentFrame>,
    /// Time that the peer has for the parts that it has read, in addition to the timeout.
    earned: Duration,
    /// The timeout, once the peer has not read a part at once.
    deadline: Option<Pin<Box<Sleep>>>,
}

#[derive(Clone, Copy)]
struct SentFrame {
    length: usize,
    is_last: bool,
}

impl Sending {
    fn new(outgoing: Outgoing, opcode: OpCode) -> Self {
        let (rest, held) = match outgoing {
            Outgoing::Primitive(Encoded { bytes, held }) => (bytes, Some(held)),
            Outgoing::Ping => (Bytes::new(), None),
        };
        Self { rest, held, opcode, frame: None, earned: Duration::ZERO, deadline: None }
    }

    /// Returns the next frame.
    fn next_frame(&mut self) -> Message {
        let fragment = self.rest.split_to(self.rest.len().min(MAX_FRAME));
        let is_last = self.rest.is_empty();
        self.frame = Some(SentFrame { length: fragment.len(), is_last });
        if self.held.is_none() {
            return Message::Ping(fragment);
        }
        let opcode = std::mem::replace(&mut self.opcode, OpCode::Data(Data::Continue));
        Message::Frame(Frame::message(fragment, opcode, is_last))
    }

    /// Extends the timeout by the time for so many bytes.
    fn earn(&mut self, bytes: usize) {
        let time = Duration::from_secs(bytes as u64 / MIN_READ_RATE);
        self.earned += time;
        if let Some(deadline) = &mut self.deadline {
            let extended = deadline.deadline() + time;
            deadline.as_mut().reset(extended);
        }
    }

    /// Waits until the peer has not read the next part in time.
    fn poll_timeout(&mut self, cx: &mut Context<'_>, timeout: Duration) -> Poll<()> {
        let time = timeout + self.earned;
        self.deadline.get_or_insert_with(|| Box::pin(sleep(time))).as_mut().poll(cx)
    }
}

impl Writer {
    /// No messages yet. Those that will be sent are in this serialization.
    pub(super) fn new(serialization: Serialization, timeout: Duration) -> Self {
        let opcode = match serialization {
            Serialization::Json => OpCode::Data(Data::Text),
            Serialization::Cbor => OpCode::Data(Data::Binary),
        };
        Self { opcode, timeout, current: None, queue: VecDeque::new() }
    }

    /// Queues a message. The task must poll this writer afterwards.
    pub(super) fn push(&mut self, message: Outgoing) {
        match &self.current {
            // Most connections have one message at a time, and need no queue.
            None => self.current = Some(Sending::new(message, self.opcode)),
            Some(_) => self.queue.push_back(message),
        }
    }

    /// Queues a primitive.
    pub(super) fn push_primitive(&mut self, primitive: Encoded) {
        self.push(Outgoing::Primitive(primitive));
    }

    /// Writes what is queued, and returns why it cannot. Large messages are written in fragments. Each
    /// fragment that the peer has read extends the timeout.
    pub(super) fn poll<S>(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut Socket<S>,
        activity: &mut Activity,
    ) -> Poll<&'static str>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        while let Some(current) = &mut self.current {
            let Some(SentFrame { length, is_last }) = current.frame else {
                let frame = current.next_frame();
                if let Err(error) = socket.start_send(cx, frame) {
                    return Poll::Ready(why(&error));
                }
                continue;
            };
            match socket.poll_flush(cx) {
                Poll::Ready(Ok(())) => current.frame = None,
                Poll::Ready(Err(error)) => return Poll::Ready(why(&error)),
                Poll::Pending => {
                    ready!(current.poll_timeout(cx, self.timeout));
                    return Poll::Ready("answer not read");
                }
            }
            if !is_last {
                current.earn(length);
                continue;
            }
            if current.held.is_some() {
                activity.sent();
            }
            let next = self.queue.pop_front();
            if next.is_none() {
                // An idle connection has no buffer.
                self.queue = VecDeque::new();
            }
            self.current = next.map(|next| Sending::new(next, self.opcode));
        }
        Poll::Pending
    }
}

fn why(error: &Error) -> &'static str {
    match error {
        Error::Io(_) => "broken",
        _ => "closed",
    }
}
