//! The messages of one connection.
//!
//! Messages are read for as long as fewer requests than the bound are under way, a response that is not
//! sent yet included. One future writes them, so a peer that does not read delays nobody else.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use saegis_onem2m::primitive::RequestPrimitive;
use saegis_onem2m::serialization::Serialization;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::error::{Error, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{Frame, Utf8Bytes};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_util::io::InspectReader;
use tokio_util::sync::CancellationToken;

use super::activity::Activity;
use crate::binding::outbox::Outbox;
use crate::binding::primitives::{Encoded, Exchange, Incoming};
use crate::config::WebSocket;
use crate::notification::ae_channels::RequestsToAe;
use crate::notification::ae_channels::channel::Channel;
use crate::notification::request_queue::acquire;
use crate::pipeline::Pipeline;
use crate::session::Session;

/// Size of the buffer for what is read, in bytes.
const READ_BUFFER: usize = 4 << 10;

/// Maximum size of a frame that is sent, in bytes. Larger messages are sent in fragments, because the
/// buffer for a frame lasts as long as the connection.
const MAX_FRAME: usize = 32 << 10;

/// Maximum number of requests to the AE that are queued for writing, beside one notification that has
/// waited.
const MAX_QUEUED_REQUESTS: usize = 4;

/// Time for the peer to take the close frame.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Minimum rate at which a peer reads, in bytes a second, beyond the time for the first part.
const MIN_READ_RATE: u64 = 1024;

/// A connection that has become a WebSocket.
struct Connection {
    exchange: Exchange,
    serialization: Serialization,
    /// The connection as those see it who send requests to the AE.
    channel: Channel,
    settings: WebSocket,
    /// Timeout for a message to come whole.
    message_timeout: Duration,
    /// Timeout for the peer to read the next part of a message.
    read_timeout: Duration,
}

/// Something that is to be sent.
enum Outgoing {
    Primitive(Encoded),
    Ping,
}

/// Result of a received message.
enum Dispatched<'a> {
    /// A request, which is answered with its result.
    Request(BoxFuture<'a, Encoded>),
    /// Not a primitive.
    Refused(Encoded),
    /// There is nothing to send.
    Done,
}

/// Why a connection ends, and the close frame that says so, if the peer is to have one.
struct Ending {
    why: &'static str,
    close: Option<CloseCode>,
}

impl Ending {
    fn new(why: &'static str, close: CloseCode) -> Self {
        Self { why, close: Some(close) }
    }

    /// The peer does not need to know, or cannot.
    fn silent(why: &'static str) -> Self {
        Self { why, close: None }
    }
}

/// Serves the messages of a connection until it ends, and returns why it did. `read` has been read from
/// the stream already.
pub async fn serve<S>(
    stream: &mut S,
    read: Vec<u8>,
    (pipeline, session, serialization): (Pipeline, Arc<Session>, Serialization),
    stop: &CancellationToken,
) -> &'static str
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (connection, requests) = Connection::new(pipeline, session, serialization);
    let activity = Activity::new(read.len());
    let max_message = connection.exchange.max_message();
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_write_buffer_size(4 * MAX_FRAME)
        .max_message_size(Some(max_message))
        .max_frame_size(Some(max_message))
        .accept_unmasked_frames(false);
    let stream = InspectReader::new(stream, |bytes| activity.read(bytes.len()));
    let socket = WebSocketStream::from_partially_read(stream, read, Role::Server, Some(config));
    let (mut sink, mut messages) = socket.await.split();
    // Bounded by the permits that the queued primitives hold.
    let outgoing = Outbox::default();
    let ending = {
        let reading = pin!(connection.read(&mut messages, requests, &outgoing, &activity, stop));
        let writing = pin!(connection.write(&mut sink, &outgoing, &activity));
        tokio::select! {
            // The writer after the reader, which fills the outbox.
            biased;
            ending = reading => ending,
            why = writing => Ending::silent(why),
            () = connection.channel.deliver_waiting() => {
                Ending::new("another connection of the same credential", CloseCode::Policy)
            }
            why = connection.exchange.session.ended() => Ending::new(why, CloseCode::Policy),
        }
    };
    if let Some(code) = ending.close {
        let reason = Utf8Bytes::from_static(ending.why);
        let close = Message::Close(Some(CloseFrame { code, reason }));
        // Whether the peer takes it is up to the peer.
        let _ = timeout(CLOSE_TIMEOUT, sink.send(close)).await;
    }
    ending.why
}

impl Connection {
    /// The connection of a session, and the requests to its AE.
    fn new(
        pipeline: Pipeline,
        session: Arc<Session>,
        serialization: Serialization,
    ) -> (Self, RequestsToAe) {
        let settings = *pipeline.websocket();
        let limits = pipeline.limits();
        let message_timeout = Duration::from_secs(limits.content_seconds);
        let read_timeout = Duration::from_secs(limits.response_seconds);
        let (channel, requests) = Channel::open(pipeline.ae_channels(), session.active.clone());
        let exchange = Exchange::new(pipeline, session);
        let connection =
            Self { exchange, serialization, channel, settings, message_timeout, read_timeout };
        (connection, requests)
    }

    /// Reads messages, and has them carried out.
    async fn read<S>(
        &self,
        messages: &mut SplitStream<WebSocketStream<S>>,
        mut requests: RequestsToAe,
        outgoing: &Outbox<Outgoing>,
        activity: &Activity,
        stop: &CancellationToken,
    ) -> Ending
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let most = self.settings.requests;
        let slots = Arc::new(Semaphore::new(most));
        let mut in_flight = FuturesUnordered::new();
        let mut timers = Timers { pinged: None };
        // It is set again when it fires, because each message extends the times.
        let mut timer = pin!(sleep_until(timers.next(self, activity)));
        let mut stopped = pin!(stop.cancelled());
        let mut slot = None;
        let mut stopping = false;
        loop {
            let is_listening = (slot.is_some() || slots.available_permits() > 0) && !stopping;
            let next_message = async {
                if slot.is_none() {
                    // The semaphore is never closed.
                    slot = acquire(&slots).await;
                }
                tokio::select! {
                    // The stream first, because its reads begin and complete messages.
                    biased;
                    message = messages.next() => Ok(message),
                    () = activity.incomplete_for(self.message_timeout) => {
                        let why = "the message did not come in time";
                        Err(Ending::new(why, CloseCode::Policy))
                    }
                }
            };
            // No branch waits for the peer to read: requests in flight hold resources that others
            // wait for, and must be polled.
            tokio::select! {
                // Messages last: reading looks into the TLS session, even if nothing has come, and a
                // peer that floods could starve what is below.
                biased;
                Some(response) = in_flight.next() => send(outgoing, response),
                Some((permit, request)) = requests.asked.recv_with(MAX_QUEUED_REQUESTS), if !stopping => {
                    self.send_request(outgoing, &request, permit);
                }
                Some((permit, request)) = requests.waiting.recv_with(1), if !stopping => {
                    self.send_request(outgoing, &request, permit);
                }
                () = &mut timer => {
                    let is_busy = !in_flight.is_empty();
                    match timers.check(self, activity, is_busy, is_listening) {
                        Check::Fine => {}
                        Check::Ping => {
                            // One ping at most is queued, and the writer has its own timeout.
                            outgoing.push(Outgoing::Ping);
                        }
                        Check::End(ending) => return ending,
                    }
                    timer.as_mut().reset(timers.next(self, activity));
                }
                () = &mut stopped, if !stopping => stopping = true,
                received = next_message, if !stopping => {
                    let (permit, message) = match (slot.take(), received) {
                        (Some(permit), Ok(Some(message))) => (permit, message),
                        (_, Ok(_)) => return Ending::silent("closed"),
                        (_, Err(ending)) => return ending,
                    };
                    match self.dispatch(message, permit, activity) {
                        Ok(Dispatched::Request(response)) => in_flight.push(response),
                        Ok(Dispatched::Refused(refusal)) => send(outgoing, refusal),
                        Ok(Dispatched::Done) => {}
                        Err(ending) => return ending,
                    }
                }
            }
            if stopping && in_flight.is_empty() {
                drop(slot);
                // Until the last response is sent.
                let _ = slots.acquire_many(u32::try_from(most).unwrap_or(u32::MAX)).await;
                return Ending::new("gateway stopping", CloseCode::Away);
            }
        }
    }

    /// Queues a request to the AE for writing.
    fn send_request(
        &self,
        outgoing: &Outbox<Outgoing>,
        request: &RequestPrimitive,
        permit: OwnedSemaphorePermit,
    ) {
        let request = self.exchange.request(self.serialization, request, &self.channel, permit);
        if let Some(request) = request {
            send(outgoing, request);
        }
    }

    /// Dispatches a message: a request to the pipeline, and a response to whoever waits for it.
    fn dispatch(
        &self,
        message: Result<Message, Error>,
        permit: OwnedSemaphorePermit,
        activity: &Activity,
    ) -> Result<Dispatched<'_>, Ending> {
        let Some(bytes) = self.received(message, activity)? else { return Ok(Dispatched::Done) };
        let serialization = self.serialization;
        Ok(match self.exchange.read(serialization, bytes) {
            Incoming::Request(request) => {
                let response = self.exchange.respond(serialization, request, permit);
                Dispatched::Request(Box::pin(response))
            }
            Incoming::Response(response) => {
                self.exchange.complete(Some(&self.channel), response);
                Dispatched::Done
            }
            // It may be the response to a request that was sent to the AE.
            Incoming::Bad(error) if self.channel.fails(&error) => Dispatched::Done,
            // A peer that answers responses would otherwise exchange refusals without end.
            Incoming::Bad(error) if error.is_response => {
                self.exchange.unexpected(error.request_id.as_deref().unwrap_or_default());
                Dispatched::Done
            }
            Incoming::Bad(error) => {
                Dispatched::Refused(self.exchange.refuse(serialization, None, error, permit))
            }
        })
    }

    /// Returns the content of a data message; none for other messages.
    fn received(
        &self,
        message: Result<Message, Error>,
        activity: &Activity,
    ) -> Result<Option<Bytes>, Ending> {
        match (message, self.serialization) {
            (Ok(Message::Text(text)), Serialization::Json) => {
                activity.message();
                Ok(Some(text.into()))
            }
            (Ok(Message::Binary(bytes)), Serialization::Cbor) => {
                activity.message();
                Ok(Some(bytes))
            }
            (Ok(Message::Text(_) | Message::Binary(_)), _) => {
                Err(Ending::new("the frames are not of the subprotocol", CloseCode::Unsupported))
            }
            (Ok(Message::Ping(content) | Message::Pong(content)), _) => {
                activity.control_frame(content.len());
                Ok(None)
            }
            // The answer to it is sent with the next look at the stream, which then is over.
            (Ok(Message::Close(_) | Message::Frame(_)), _) => Ok(None),
            (Err(error), _) => Err(match error {
                Error::Capacity(_) => Ending::new("message too large", CloseCode::Size),
                Error::Utf8(_) => Ending::new("bad WebSocket", CloseCode::Invalid),
                Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
                    Ending::silent("closed")
                }
                Error::Protocol(_) => Ending::new("bad WebSocket", CloseCode::Protocol),
                _ => Ending::silent("broken"),
            }),
        }
    }

    /// Writes what is queued, and returns why it cannot.
    async fn write<S>(
        &self,
        sink: &mut SplitSink<WebSocketStream<S>, Message>,
        queue: &Outbox<Outgoing>,
        activity: &Activity,
    ) -> &'static str
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        loop {
            let sent = match queue.next().await {
                Outgoing::Ping => {
                    timeout(self.read_timeout, sink.send(Message::Ping(Bytes::new()))).await
                }
                Outgoing::Primitive(encoded) => {
                    let sent = self.write_fragments(sink, &encoded.bytes).await;
                    activity.sent();
                    sent
                }
            };
            match sent {
                Ok(Ok(())) => {}
                Ok(Err(Error::Io(_))) => return "broken",
                Ok(Err(_)) => return "closed",
                Err(_) => return "answer not read",
            }
        }
    }

    /// Writes a message, in fragments if it is large. Each fragment that the peer has read extends
    /// the timeout.
    async fn write_fragments<S>(
        &self,
        sink: &mut SplitSink<WebSocketStream<S>, Message>,
        message: &Bytes,
    ) -> Result<Result<(), Error>, Elapsed>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut deadline = Instant::now() + self.read_timeout;
        let mut rest = message.clone();
        let mut opcode = match self.serialization {
            Serialization::Json => OpCode::Data(Data::Text),
            Serialization::Cbor => OpCode::Data(Data::Binary),
        };
        loop {
            let fragment = rest.split_to(rest.len().min(MAX_FRAME));
            let earned = Duration::from_secs(fragment.len() as u64 / MIN_READ_RATE);
            let is_last = rest.is_empty();
            let frame = Message::Frame(Frame::message(fragment, opcode, is_last));
            let sent = timeout_at(deadline, sink.send(frame)).await?;
            if sent.is_err() || is_last {
                return Ok(sent);
            }
            deadline += earned;
            opcode = OpCode::Data(Data::Continue);
        }
    }
}

fn send(outgoing: &Outbox<Outgoing>, primitive: Encoded) {
    outgoing.push(Outgoing::Primitive(primitive));
}

/// Timeouts of a connection on which nothing comes.
struct Timers {
    /// When the peer was sent a ping that it has not answered.
    pinged: Option<Instant>,
}

/// Result of a check of the timeouts.
enum Check {
    Fine,
    Ping,
    End(Ending),
}

impl Timers {
    /// Returns the time of the next check.
    fn next(&self, connection: &Connection, activity: &Activity) -> Instant {
        let settings = &connection.settings;
        let ping = self.pinged.unwrap_or_else(|| activity.last_read()) + settings.ping();
        let idle = activity.last_primitive() + settings.idle();
        ping.min(idle)
    }

    /// Looks at the times. `is_busy` says that requests are carried out, and `is_listening` that the peer
    /// is read from.
    fn check(
        &mut self,
        connection: &Connection,
        activity: &Activity,
        is_busy: bool,
        is_listening: bool,
    ) -> Check {
        let settings = &connection.settings;
        let now = Instant::now();
        if !is_listening {
            // The peer's data, if any, is not read.
            activity.resume();
            self.pinged = None;
        }
        if is_busy {
            activity.sent();
        }
        if activity.last_primitive() + settings.idle() <= now {
            return Check::End(Ending::new("idle", CloseCode::Normal));
        }
        if self.pinged.is_some_and(|at| activity.last_read() > at) {
            self.pinged = None;
        }
        match self.pinged {
            Some(at) if at + settings.ping() <= now => Check::End(Ending::silent("no pong")),
            None if activity.last_read() + settings.ping() <= now => {
                self.pinged = Some(now);
                Check::Ping
            }
            _ => Check::Fine,
        }
    }
}
