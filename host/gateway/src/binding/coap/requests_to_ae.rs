//! Requests to the AE within its own association, which reach it behind a NAT.

use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use rand::RngExt as _;
use saegis_onem2m::coap::{
    ClientStep, ClientTransfer, Exchanges, Parts, Token, read_response, write_request,
};
use saegis_onem2m::id::CseId;
use saegis_onem2m::primitive::{RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::serialization::Serialization;

use crate::notification::ae_channels::RequestsToAe;
use crate::notification::ae_channels::channel::Channel;
use crate::pipeline::Pipeline;
use crate::session::Session;
use crate::session::response_memory::Room;

/// The requests to an AE. One is in progress at a time (NSTART, RFC 7252 clause 4.7).
pub(super) struct AePath {
    channel: Arc<Channel>,
    requests: RequestsToAe,
    /// Ends when another association takes the requests.
    delivering: BoxFuture<'static, ()>,
    sent: Option<Sent>,
    next_token: u32,
}

/// A request without a whole response.
struct Sent {
    request_id: String,
    token: Token,
    transfer: ClientTransfer,
    /// Time after which nobody waits for the response.
    until: Instant,
    _room: Room,
}

impl AePath {
    /// Makes the association of a session the one that takes the requests to its AE. Returns `None` if
    /// it does not stand for an AE, or if the AE has a connection that takes them.
    pub fn open(pipeline: &Pipeline, session: &Session) -> Option<Self> {
        if session.active.association.entity().stems().is_empty() {
            return None;
        }
        let open = Channel::open_over_datagrams(pipeline.ae_channels(), session.active.clone());
        let (channel, requests) = open?;
        let channel = Arc::new(channel);
        let delivering = {
            let channel = channel.clone();
            Box::pin(async move { channel.deliver_waiting().await })
        };
        let next_token = rand::rng().random();
        Some(Self { channel, requests, delivering, sent: None, next_token })
    }

    /// Returns whether another association takes the requests now.
    pub fn is_superseded(&self) -> bool {
        self.channel.is_superseded()
    }

    /// Waits for the next request to the AE. Returns `None` if another association takes them now.
    pub async fn next(path: Option<&mut Self>) -> Option<Box<RequestPrimitive>> {
        let Some(path) = path else { return pending().await };
        let Self { requests, delivering, sent, .. } = path;
        let is_free = sent.is_none();
        tokio::select! {
            biased;
            () = delivering => None,
            request = requests.asked.recv(), if is_free => Some(request),
            request = requests.waiting.recv(), if is_free => Some(request),
        }
    }

    /// Gives the request in progress up.
    pub fn close(self, exchanges: &mut Exchanges) {
        if let Some(sent) = self.sent {
            exchanges.cancel(sent.token);
        }
    }

    /// Returns the time after which the request in progress is given up.
    pub fn until(&self) -> Option<Instant> {
        self.sent.as_ref().map(|sent| sent.until)
    }

    /// Gives the request in progress up, if nobody waits for its response any more.
    pub fn expire(&mut self, exchanges: &mut Exchanges, now: Instant) {
        let is_over =
            |sent: &mut Sent| sent.until <= now || !self.channel.is_awaited(&sent.request_id);
        if let Some(sent) = self.sent.take_if(is_over) {
            exchanges.cancel(sent.token);
        }
    }

    /// Starts a request. Returns the first datagram, unless nobody waits for the response, or CoAP
    /// cannot carry it.
    pub fn start(
        &mut self,
        request: &RequestPrimitive,
        (session, serialization): (&Session, Serialization),
        (own, limits): (&CseId, PathLimits),
        exchanges: &mut Exchanges,
    ) -> Option<Bytes> {
        if !self.channel.is_awaited(&request.request_id) {
            return None;
        }
        let message = match write_request(request, own, serialization) {
            Ok(message) => message,
            Err(error) => {
                self.channel.fail(&request.request_id, &error.to_string());
                return None;
            }
        };
        let size = message.payload.len();
        let room = session.response_memory.hold_request(size, session.active.ending());
        let PathLimits { max_message, max_content, timeout } = limits;
        let (transfer, first) = ClientTransfer::start(message, max_message, max_content);
        self.next_token = self.next_token.wrapping_add(1);
        // Four bytes fit.
        let token = Token::new(&self.next_token.to_be_bytes()).unwrap_or_default();
        let now = Instant::now();
        let datagram = exchanges.request(token, first, now).ok()?;
        let (request_id, until) = (request.request_id.clone(), now + timeout);
        self.sent = Some(Sent { request_id, token, transfer, until, _room: room });
        Some(datagram)
    }

    /// Handles a response. Returns the next datagram of a transfer in blocks. A response that nobody
    /// waits for is an error.
    pub fn receive(
        &mut self,
        token: Token,
        response: Parts,
        max_content: usize,
        exchanges: &mut Exchanges,
    ) -> Result<Option<Bytes>, Unexpected> {
        let mut sent = self.sent.take_if(|sent| sent.token == token).ok_or(Unexpected)?;
        match sent.transfer.receive(response) {
            Ok(ClientStep::Request(next)) => {
                let datagram = exchanges.request(token, next, Instant::now()).ok();
                self.sent = Some(sent);
                Ok(datagram)
            }
            Ok(ClientStep::Response(response)) => {
                match read_response(&response, max_content) {
                    Ok(response) => self.complete(sent.request_id, response)?,
                    Err(refusal) => self.fail(&sent.request_id, &refusal.to_string())?,
                }
                Ok(None)
            }
            Err(refusal) => {
                self.fail(&sent.request_id, &refusal.to_string())?;
                Ok(None)
            }
        }
    }

    /// The AE has rejected the message of a request.
    pub fn rejected(&mut self, token: Token) {
        if let Some(sent) = self.sent.take_if(|sent| sent.token == token) {
            self.channel.fail(&sent.request_id, "the AE rejected the message");
        }
    }

    /// The AE has not acknowledged a request. The sender learns that by the time, so that a
    /// notification waits on.
    pub fn not_acknowledged(&mut self, tokens: &[Token]) {
        self.sent.take_if(|sent| tokens.contains(&sent.token));
    }

    /// The token belongs to the request, so a response may omit the identifier, but not name another.
    fn complete(&self, id: String, response: ResponsePrimitive) -> Result<(), Unexpected> {
        if !response.request_id.is_empty() && response.request_id != id {
            return self.fail(&id, "its response has the identifier of another request");
        }
        let response = ResponsePrimitive { request_id: id, ..response };
        if self.channel.respond(response) { Ok(()) } else { Err(Unexpected) }
    }

    fn fail(&self, id: &str, why: &str) -> Result<(), Unexpected> {
        if self.channel.fail(id, why) { Ok(()) } else { Err(Unexpected) }
    }
}

/// Limits of requests to an AE.
#[derive(Debug, Clone, Copy)]
pub(super) struct PathLimits {
    /// Maximum size of a message, in bytes.
    pub max_message: usize,
    /// Maximum size of the content of a response, in bytes.
    pub max_content: usize,
    /// Timeout for the response.
    pub timeout: Duration,
}

/// Nobody waits for a response.
#[derive(Debug)]
pub(super) struct Unexpected;
