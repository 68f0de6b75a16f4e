//! The messages of one connection.
//!
//! Messages are read for as long as fewer requests than the bound are under way, a response that is not
//! sent yet included. One task reads them, carries them out and writes the responses. No part of it waits
//! for the peer to read: requests in flight hold resources that others wait for, and must be polled.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use saegis_onem2m::primitive::RequestPrimitive;
use saegis_onem2m::serialization::Serialization;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tungstenite::Message;
use tungstenite::error::{Error, ProtocolError};
use tungstenite::protocol::frame::Utf8Bytes;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, WebSocketConfig};

use super::activity::Activity;
use super::in_flight::InFlight;
use super::socket::Socket;
use super::writer::{MAX_FRAME, Outgoing, Writer};
use crate::binding::primitives::{Encoded, Exchange, Incoming};
use crate::config::WebSocket;
use crate::notification::ae_channels::RequestsToAe;
use crate::notification::ae_channels::channel::Channel;
use crate::pipeline::Pipeline;
use crate::session::Session;

/// Size of the buffer for what is read, in bytes.
const READ_BUFFER: usize = 4 << 10;

/// Maximum number of messages that are read before other tasks run.
const MAX_MESSAGES_AT_ONCE: usize = 32;

/// Maximum number of requests to the AE that are queued for writing, beside one notification that has
/// waited.
const MAX_QUEUED_REQUESTS: usize = 4;

/// Time for the peer to take the close frame.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

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
    let mut stopped = pin!(stop.cancelled());
    let mut superseded = pin!(connection.channel.deliver_waiting());
    let mut ended = pin!(connection.exchange.session.ended());
    let mut serving = Serving::new(&connection, stream, read, requests);
    // It is set again when it fires, because each message extends the times.
    let mut timer = pin!(sleep_until(serving.next_check()));
    let ending = poll_fn(|cx| {
        if let Poll::Ready(ending) = serving.poll(cx, timer.as_mut(), stopped.as_mut()) {
            return Poll::Ready(ending);
        }
        if superseded.as_mut().poll(cx).is_ready() {
            let why = "another connection of the same credential";
            return Poll::Ready(Ending::new(why, CloseCode::Policy));
        }
        ended.as_mut().poll(cx).map(|why| Ending::new(why, CloseCode::Policy))
    });
    let ending = ending.await;
    let mut socket = serving.into_socket();
    if let Some(code) = ending.close {
        let reason = Utf8Bytes::from_static(ending.why);
        let close = Message::Close(Some(CloseFrame { code, reason }));
        // Whether the peer takes it is up to the peer.
        let _ = timeout(CLOSE_TIMEOUT, socket.send(close)).await;
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

    /// Encodes a request to the AE.
    fn request_to_ae(
        &self,
        request: &RequestPrimitive,
        permit: OwnedSemaphorePermit,
    ) -> Option<Encoded> {
        self.exchange.request(self.serialization, request, &self.channel, permit)
    }

    /// Dispatches a message: a request to the pipeline, and a response to whoever waits for it.
    fn dispatch(
        &self,
        message: Result<Message, Error>,
        permit: OwnedSemaphorePermit,
        activity: &mut Activity,
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
        activity: &mut Activity,
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
}

/// A connection that is being served.
///
/// Its parts are polled one after the other, whenever the task is woken.
struct Serving<'a, S> {
    connection: &'a Connection,
    socket: Socket<S>,
    writer: Writer,
    /// Requests to the AE.
    requests: RequestsToAe,
    in_flight: InFlight<'a, Encoded>,
    slots: Arc<Semaphore>,
    /// The slot of the next message, which is read only if there is one.
    slot: Option<OwnedSemaphorePermit>,
    activity: Activity,
    timers: Timers,
    stopping: bool,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Serving<'a, S> {
    /// `read` has been read from the stream already.
    fn new(connection: &'a Connection, stream: S, read: Vec<u8>, requests: RequestsToAe) -> Self {
        let max_message = connection.exchange.max_message();
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_write_buffer_size(4 * MAX_FRAME)
            .max_message_size(Some(max_message))
            .max_frame_size(Some(max_message))
            .accept_unmasked_frames(false);
        let socket = Socket::new(stream, read, config);
        let activity = Activity::new(socket.bytes_read());
        Self {
            connection,
            socket,
            writer: Writer::new(connection.serialization, connection.read_timeout),
            requests,
            in_flight: InFlight::new(),
            slots: Arc::new(Semaphore::new(connection.settings.requests)),
            slot: None,
            activity,
            timers: Timers { pinged: None },
            stopping: false,
        }
    }

    /// Returns the socket, and drops what is under way.
    fn into_socket(self) -> Socket<S> {
        self.socket
    }

    fn next_check(&self) -> Instant {
        self.timers.next(self.connection, &self.activity)
    }

    /// Does what can be done, and returns why the connection ends. `timer` fires at the next check of the
    /// timeouts.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut timer: Pin<&mut Sleep>,
        stopped: Pin<&mut impl Future<Output = ()>>,
    ) -> Poll<Ending> {
        if !self.stopping {
            self.send_requests(cx);
            self.stopping = stopped.poll(cx).is_ready();
        }
        while timer.as_mut().poll(cx).is_ready() {
            if let Some(ending) = self.check_timeouts() {
                return Poll::Ready(ending);
            }
            timer.as_mut().reset(self.next_check());
        }
        for _ in 0..MAX_MESSAGES_AT_ONCE {
            while let Poll::Ready(response) = self.in_flight.poll_next(cx) {
                self.writer.push_primitive(response);
            }
            if let Poll::Ready(why) = self.writer.poll(cx, &mut self.socket, &mut self.activity) {
                return Poll::Ready(Ending::silent(why));
            }
            if self.stopping {
                return self.poll_stopped();
            }
            if self.slot.is_none() {
                // A slot becomes free when this task has written a response.
                self.slot = self.slots.clone().try_acquire_owned().ok();
            }
            if self.slot.is_none() {
                return Poll::Pending;
            }
            let message = self.socket.poll_message(cx);
            self.activity.has_read(self.socket.bytes_read());
            let Poll::Ready(message) = message else {
                return self.poll_rest(cx, timer);
            };
            let (Some(message), Some(permit)) = (message, self.slot.take()) else {
                return Poll::Ready(Ending::silent("closed"));
            };
            match self.connection.dispatch(message, permit, &mut self.activity) {
                Ok(Dispatched::Request(response)) => self.in_flight.push(response),
                Ok(Dispatched::Refused(refusal)) => self.writer.push_primitive(refusal),
                Ok(Dispatched::Done) => {}
                Err(ending) => return Poll::Ready(ending),
            }
        }
        // A peer that floods must not starve other tasks, or what is above.
        cx.waker().wake_by_ref();
        self.poll_rest(cx, timer)
    }

    /// Ends the connection of a gateway that stops, once the last response is sent.
    fn poll_stopped(&mut self) -> Poll<Ending> {
        self.slot = None;
        let is_idle = self.slots.available_permits() == self.connection.settings.requests;
        match self.in_flight.is_empty() && is_idle {
            true => Poll::Ready(Ending::new("gateway stopping", CloseCode::Away)),
            false => Poll::Pending,
        }
    }

    /// Waits for the rest of an incomplete message, after what has come was read. `timer` fires at its
    /// timeout at the latest.
    fn poll_rest(&self, cx: &Context<'_>, timer: Pin<&mut Sleep>) -> Poll<Ending> {
        if let Some(until) = self.activity.incomplete_until(self.connection.message_timeout) {
            if until <= Instant::now() {
                let why = "the message did not come in time";
                return Poll::Ready(Ending::new(why, CloseCode::Policy));
            }
            if until < timer.deadline() {
                timer.reset(until);
                // The timer must be polled.
                cx.waker().wake_by_ref();
            }
        }
        Poll::Pending
    }

    /// Queues the requests to the AE for writing, as many as may be queued.
    fn send_requests(&mut self, cx: &mut Context<'_>) {
        let Self { connection, writer, requests, .. } = self;
        let RequestsToAe { asked, waiting } = requests;
        for (queue, max) in [(asked, MAX_QUEUED_REQUESTS), (waiting, 1)] {
            while let Poll::Ready(Some((permit, request))) = queue.poll_recv_with(cx, max) {
                if let Some(request) = connection.request_to_ae(&request, permit) {
                    writer.push_primitive(request);
                }
            }
        }
    }

    /// Checks the timeouts, and returns why the connection ends.
    fn check_timeouts(&mut self) -> Option<Ending> {
        let has_slot = self.slot.is_some() || self.slots.available_permits() > 0;
        let is_listening = has_slot && !self.stopping;
        let is_busy = !self.in_flight.is_empty();
        match self.timers.check(self.connection, &mut self.activity, is_busy, is_listening) {
            Check::Fine => None,
            Check::Ping => {
                // One ping at most is queued, and the writer has its own timeout.
                self.writer.push(Outgoing::Ping);
                None
            }
            Check::End(ending) => Some(ending),
        }
    }
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
        activity: &mut Activity,
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
