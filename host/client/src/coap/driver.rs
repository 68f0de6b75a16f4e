//! The task of an association: it encrypts, repeats and acknowledges messages.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::RngExt as _;
use saegis_handshake::dtls::Connection;
use saegis_onem2m::coap::{
    ClientStep, ClientTransfer, Exchange, Exchanges, Limits, Parts, Received, ResponseForm, Step,
    Token, Transfers, read_request, write_refusal, write_response,
};
use saegis_onem2m::primitive::ResponsePrimitive;
use saegis_onem2m::rsc::Rsc;
use tokio::sync::{mpsc, oneshot};

use super::command::{Command, Incoming, ReplyTo};

/// Maximum size of a message, in bytes (RFC 7252 clause 4.6).
const MAX_MESSAGE: usize = 1152;
/// Limits of the blocks of requests of the peer.
const LIMITS: Limits = Limits {
    max_body: 1 << 20,
    max_per_association: 4,
    max_bytes: 2 << 20,
    lifetime: Duration::from_secs(120),
    max_message: MAX_MESSAGE,
};
/// Interval in which requests that nobody waits for are given up, at most.
const MAX_SLEEP: Duration = Duration::from_secs(10);
/// Time without a request after which an endpoint establishes a new association. The peer may have
/// dropped the old one, which datagrams do not show.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Time without a request after which the association of an endpoint ends. The endpoint does not
/// use it for some time before, so that no request meets the end.
const MAX_IDLE: Duration = IDLE_TIMEOUT.saturating_add(Duration::from_secs(5));

pub(super) struct Driver {
    connection: Connection,
    commands: mpsc::Receiver<Command>,
    requests: Option<mpsc::Sender<Incoming>>,
    last_heard: Arc<Mutex<Instant>>,
    exchanges: Exchanges,
    incoming: Transfers<(), ()>,
    own: Vec<OwnRequest>,
    /// Time of the last request of this process.
    last_asked: Instant,
    next_token: u32,
    /// Datagrams to send.
    outgoing: Vec<Bytes>,
}

/// A request of this process without a whole response.
struct OwnRequest {
    token: Token,
    transfer: ClientTransfer,
    answer: oneshot::Sender<Result<Parts, String>>,
}

impl Driver {
    pub(super) fn new(
        connection: Connection,
        commands: mpsc::Receiver<Command>,
        requests: Option<mpsc::Sender<Incoming>>,
        last_heard: Arc<Mutex<Instant>>,
    ) -> Self {
        let mut rng = rand::rng();
        // RFC 7252 clause 4.8: two seconds, times 1 to 1.5.
        let timeout = Duration::from_millis(rng.random_range(2000..=3000));
        Self {
            connection,
            commands,
            requests,
            last_heard,
            exchanges: Exchanges::new(rng.random(), timeout),
            incoming: Transfers::new(LIMITS),
            own: Vec::new(),
            last_asked: Instant::now(),
            next_token: rng.random(),
            outgoing: Vec::new(),
        }
    }

    /// Serves the association until it ends, or the client is dropped.
    pub(super) async fn run(mut self) {
        let why = loop {
            for datagram in std::mem::take(&mut self.outgoing) {
                if let Err(error) = self.connection.send(&datagram).await {
                    return self.end(&error.to_string());
                }
            }
            if self.is_idle(Instant::now()) {
                break "it was idle".into();
            }
            let sleep = tokio::time::sleep_until(self.next_poll().into());
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(command) => self.command(command),
                    None => break "it is not needed any more".into(),
                },
                received = self.connection.receive() => match received {
                    Ok(messages) => messages.into_iter().for_each(|m| self.receive(m)),
                    Err(error) => break error.to_string(),
                },
                () = sleep => {}
            }
            if !self.poll() {
                break "the peer does not answer".into();
            }
        };
        self.end(&why);
    }

    /// Returns whether the endpoint no longer uses the association. An association that takes
    /// requests of the peer may wait for them.
    fn is_idle(&self, now: Instant) -> bool {
        let idle_time = now.saturating_duration_since(self.last_asked);
        self.requests.is_none() && self.own.is_empty() && idle_time >= MAX_IDLE
    }

    fn end(mut self, why: &str) {
        self.connection.close();
        for own in self.own {
            let _ = own.answer.send(Err(why.to_string()));
        }
    }

    fn next_poll(&self) -> Instant {
        let latest = Instant::now() + MAX_SLEEP;
        self.exchanges.next_poll().map_or(latest, |at| at.min(latest))
    }

    /// Repeats and acknowledges what is due. Returns whether the peer answers.
    fn poll(&mut self) -> bool {
        let exchanges = &mut self.exchanges;
        self.own.retain(|own| {
            let is_awaited = !own.answer.is_closed();
            if !is_awaited {
                exchanges.cancel(own.token);
            }
            is_awaited
        });
        let now = Instant::now();
        let due = self.exchanges.poll(now);
        self.outgoing.extend(due.datagrams);
        self.incoming.expire(now);
        due.failed.is_empty()
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Ask { request, max_content, answer } => {
                self.last_asked = Instant::now();
                let (transfer, first) = ClientTransfer::start(request, MAX_MESSAGE, max_content);
                self.next_token = self.next_token.wrapping_add(1);
                // Four bytes fit.
                let token = Token::new(&self.next_token.to_be_bytes()).unwrap_or_default();
                self.send(OwnRequest { token, transfer, answer }, first);
            }
            Command::Respond { to: ReplyTo { exchange, request }, response } => {
                let operation = read_request(&request).ok().map(|request| request.operation);
                let form = ResponseForm::of(&request);
                let response = write_response(*response, operation, form);
                self.respond(exchange, &request, response);
            }
        }
    }

    /// Sends a message of an own request.
    fn send(&mut self, own: OwnRequest, message: Parts) {
        match self.exchanges.request(own.token, message, Instant::now()) {
            Ok(datagram) => {
                self.outgoing.push(datagram);
                self.own.push(own);
            }
            Err(busy) => {
                let _ = own.answer.send(Err(busy.to_string()));
            }
        }
    }

    fn receive(&mut self, message: Vec<u8>) {
        let now = Instant::now();
        *self.last_heard.lock().unwrap_or_else(PoisonError::into_inner) = now;
        match self.exchanges.receive(&message.into(), now) {
            Received::Nothing => {}
            Received::Reply(datagram) => self.outgoing.push(datagram),
            Received::Request(exchange, parts) => {
                if self.requests.is_none() {
                    return self.refuse_as_client(exchange, &parts, now);
                }
                match self.incoming.receive((&(), &()), parts, now) {
                    Step::Answer(answer) => {
                        self.outgoing.extend(self.exchanges.respond(exchange, answer, now));
                    }
                    Step::Request(request) => self.request(exchange, request),
                }
            }
            Received::Response(token, parts, acknowledgement) => {
                self.outgoing.extend(acknowledgement);
                self.response(token, parts);
            }
            Received::Rejected(token) => {
                if let Some(own) = self.take(token) {
                    let _ = own.answer.send(Err("the peer rejected the message".into()));
                }
            }
        }
    }

    fn take(&mut self, token: Token) -> Option<OwnRequest> {
        let at = self.own.iter().position(|own| own.token == token)?;
        Some(self.own.swap_remove(at))
    }

    fn response(&mut self, token: Token, parts: Parts) {
        let Some(mut own) = self.take(token) else { return };
        match own.transfer.receive(parts) {
            Ok(ClientStep::Request(message)) => self.send(own, message),
            Ok(ClientStep::Response(response)) => {
                let _ = own.answer.send(Ok(response));
            }
            Err(refusal) => {
                let _ = own.answer.send(Err(refusal.to_string()));
            }
        }
    }

    /// Passes a request of the peer on.
    fn request(&mut self, exchange: Exchange, request: Parts) {
        let form = ResponseForm::of(&request);
        let primitive = match read_request(&request) {
            Ok(primitive) => primitive,
            Err(refusal) => {
                return self.respond(exchange, &request, write_refusal(&refusal, form));
            }
        };
        let id = primitive.request_id.clone();
        let release = primitive.release.clone();
        let reply = ReplyTo { exchange, request: request.clone() };
        let incoming = Incoming { request: Box::new(primitive), reply };
        if self.requests.as_ref().is_some_and(|all| all.try_send(incoming).is_ok()) {
            return;
        }
        let (release, rsc) = (release.as_deref(), Rsc::InternalServerError);
        let refusal = ResponsePrimitive::refusal(&id, release, rsc, "too many requests");
        self.respond(exchange, &request, write_response(refusal, None, form));
    }

    /// Refuses a request or a block of one, without keeping any of it.
    fn refuse_as_client(&mut self, exchange: Exchange, request: &Parts, now: Instant) {
        // A block is not a whole request, but has the identifier.
        let (id, release) = match read_request(request) {
            Ok(request) => (Some(request.request_id), request.release),
            Err(refusal) => (refusal.error.request_id, None),
        };
        let (id, rsc) = (id.unwrap_or_default(), Rsc::OperationNotAllowed);
        let why = "this end is a client only";
        let refusal = ResponsePrimitive::refusal(&id, release.as_deref(), rsc, why);
        let answer = write_response(refusal, None, ResponseForm::of(request));
        self.outgoing.extend(self.exchanges.respond(exchange, answer, now));
    }

    fn respond(&mut self, exchange: Exchange, request: &Parts, response: Parts) {
        let now = Instant::now();
        let answer = self.incoming.respond((&(), &()), request, response, now);
        self.outgoing.extend(self.exchanges.respond(exchange, answer, now));
    }
}
