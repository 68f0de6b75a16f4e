//! The messages of one association.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use rand::RngExt as _;
use saegis_handshake::dtls::{Channel, Read};
use saegis_onem2m::association::SecurityAssociation;
use saegis_onem2m::binding::BindingError;
use saegis_onem2m::coap::{
    Exchange, Exchanges, Parts, Received, ResponseForm, Step, Token, Transfers, bounded,
    read_request, write_refusal, write_response,
};
use saegis_onem2m::id::CredentialId;
use saegis_onem2m::primitive::{RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::serialization::Serialization;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::requests_to_ae::{AePath, PathLimits, Unexpected};
use crate::pipeline::{HeldResponse, Pipeline};
use crate::session::Session;
use crate::telemetry::audit;

/// Time for which the peer may take to acknowledge a message: from this on, and half of it more at
/// most (RFC 7252 clause 4.8).
const ACKNOWLEDGEMENT_TIMEOUT: Duration = Duration::from_secs(2);

/// State that all associations share.
pub struct Shared {
    /// Transfers in blocks, by the number of their association and the credential.
    pub transfers: Mutex<Transfers<u64, CredentialId>>,
}

impl Shared {
    /// Code that holds the lock does not panic.
    fn transfers(&self) -> MutexGuard<'_, Transfers<u64, CredentialId>> {
        self.transfers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An association with the datagrams of its address.
pub struct Link {
    /// Encryption of its messages.
    pub channel: Channel,
    /// Received datagrams.
    pub incoming: mpsc::Receiver<Vec<u8>>,
    /// The socket of all associations.
    pub socket: Arc<UdpSocket>,
    /// Address of the peer.
    pub peer: SocketAddr,
    /// Canceled when the address has a new association.
    pub replaced: CancellationToken,
}

impl Link {
    /// Encrypts and sends a message. A datagram that the socket does not take at once is lost, as on
    /// any network. Returns whether the association is open.
    fn send(&mut self, message: &[u8]) -> bool {
        let is_open = self.channel.send(message);
        self.flush();
        is_open
    }

    fn flush(&mut self) {
        for datagram in self.channel.outgoing() {
            // See above.
            let _ = self.socket.try_send_to(&datagram, self.peer);
        }
    }
}

/// The response to a request.
struct Answer {
    exchange: Exchange,
    /// The options of the request.
    request: Parts,
    response: Parts,
}

struct Connection<'a> {
    link: Link,
    exchanges: Exchanges,
    shared: &'a Shared,
    pipeline: &'a Pipeline,
    session: &'a Arc<Session>,
    /// Maximum length of a message that is sent, in bytes.
    max_message: usize,
    in_flight: FuturesUnordered<BoxFuture<'a, Answer>>,
    /// Requests to the AE of the association.
    path: Option<AePath>,
    /// Serialization of the last request, which the AE gets its own in.
    serialization: Serialization,
    last_message: Instant,
}

/// Serves the messages of an association until it ends, and returns why it did.
pub async fn serve(
    link: Link,
    pipeline: &Pipeline,
    session: &Arc<Session>,
    shared: &Shared,
    stop: &CancellationToken,
) -> &'static str {
    let (first_id, timeout) = {
        let mut random = rand::rng();
        let spread = random.random_range(1.0..1.5);
        (random.random(), ACKNOWLEDGEMENT_TIMEOUT.mul_f64(spread))
    };
    let max_message = pipeline.coap().max_message().min(link.channel.max_message());
    let mut connection = Connection {
        link,
        exchanges: Exchanges::new(first_id, timeout),
        shared,
        pipeline,
        session,
        max_message,
        in_flight: FuturesUnordered::new(),
        path: None,
        serialization: Serialization::default(),
        last_message: Instant::now(),
    };
    let ending = connection.run(stop).await;
    shared.transfers().end(&session.active.association.id);
    if ending.is_announced {
        connection.link.channel.close();
        connection.link.flush();
    }
    ending.why
}

/// Why an association ends, and whether the peer is to know.
struct Ending {
    why: &'static str,
    is_announced: bool,
}

impl Ending {
    fn announced(why: &'static str) -> Self {
        Self { why, is_announced: true }
    }

    /// The peer has ended it, or its address has another association.
    fn silent(why: &'static str) -> Self {
        Self { why, is_announced: false }
    }
}

impl Connection<'_> {
    async fn run(&mut self, stop: &CancellationToken) -> Ending {
        let idle = self.pipeline.coap().idle();
        let session = self.session;
        let replaced = self.link.replaced.clone();
        if replaced.is_cancelled() {
            return Ending::silent("replaced");
        }
        self.open_path();
        let mut ended = pin!(session.ended());
        let mut was_replaced = pin!(replaced.cancelled());
        let mut stopped = pin!(stop.cancelled());
        let mut timer = pin!(sleep(idle));
        let mut stopping = false;
        loop {
            // An association with requests is not idle.
            let idle_at = self.in_flight.is_empty().then(|| self.last_message + idle);
            let until = self.path.as_ref().and_then(AePath::until);
            let due = self.exchanges.next_poll().into_iter().chain(until).map(Instant::from);
            // A timer that fires too early costs less than one for each message.
            if let Some(due) = due.chain(idle_at).min().filter(|due| *due < timer.deadline()) {
                timer.as_mut().reset(due);
            }
            tokio::select! {
                // The end of an association comes before its messages. New messages come last, so
                // that they do not hold up requests that use resources of the CSE.
                biased;
                why = &mut ended => return Ending::announced(why),
                () = &mut was_replaced => return Ending::silent("replaced"),
                () = &mut stopped, if !stopping => stopping = true,
                Some(answer) = self.in_flight.next() => self.respond(answer),
                request = AePath::next(self.path.as_mut()), if !stopping => match request {
                    Some(request) => self.ask(&request),
                    None => self.close_path(),
                },
                () = &mut timer => {
                    let now = Instant::now();
                    if idle_at.is_some_and(|idle_at| idle_at <= now) {
                        return Ending::announced("idle");
                    }
                    self.poll();
                    timer.as_mut().reset(now + idle);
                }
                datagram = self.link.incoming.recv(), if !stopping => {
                    let Some(datagram) = datagram else { return Ending::silent("replaced") };
                    if !self.receive(datagram) {
                        return Ending::silent("closed");
                    }
                }
            }
            if stopping && self.in_flight.is_empty() {
                return Ending::announced("gateway stopping");
            }
        }
    }

    /// Handles a datagram of the peer. Returns whether the association is open.
    fn receive(&mut self, datagram: Vec<u8>) -> bool {
        let Read::Messages(messages) = self.link.channel.receive(datagram) else { return false };
        // Answers of the engine, such as its last flight for a client that has not got it.
        self.link.flush();
        messages.into_iter().all(|message| {
            self.last_message = Instant::now();
            match self.exchanges.receive(&Bytes::from(message), self.last_message.into()) {
                Received::Nothing => true,
                Received::Rejected(token) => {
                    self.path.iter_mut().for_each(|path| path.rejected(token));
                    true
                }
                Received::Reply(datagram) => self.link.send(&datagram),
                Received::Request(exchange, request) => self.request(exchange, request),
                Received::Response(token, response, acknowledgement) => {
                    let is_open = acknowledgement.is_none_or(|ack| self.link.send(&ack));
                    is_open && self.response(token, response)
                }
            }
        })
    }

    /// Makes this association the one that takes the requests to its AE. Of several, that is the one
    /// of the last request.
    fn open_path(&mut self) {
        if self.path.as_ref().is_some_and(AePath::is_superseded) {
            self.close_path();
        }
        if self.path.is_none() {
            self.path = AePath::open(self.pipeline, self.session);
        }
    }

    fn close_path(&mut self) {
        if let Some(path) = self.path.take() {
            path.close(&mut self.exchanges);
        }
    }

    /// Sends a request to the AE.
    fn ask(&mut self, request: &RequestPrimitive) {
        let limits = PathLimits {
            max_message: self.max_message,
            max_content: self.pipeline.limits().content_bytes,
            timeout: self.pipeline.notification_timeout(),
        };
        let Some(path) = &mut self.path else { return };
        let own = (&self.pipeline.this_cse().cse_id, limits);
        let to = (&**self.session, self.serialization);
        if let Some(datagram) = path.start(request, to, own, &mut self.exchanges) {
            self.link.send(&datagram);
        }
    }

    /// Handles a response of the AE. Returns whether the association is open.
    fn response(&mut self, token: Token, response: Parts) -> bool {
        let max_content = self.pipeline.limits().content_bytes;
        let Some(path) = &mut self.path else { return true };
        match path.receive(token, response, max_content, &mut self.exchanges) {
            Ok(next) => next.is_none_or(|datagram| self.link.send(&datagram)),
            Err(Unexpected) => {
                self.pipeline.count_unexpected();
                true
            }
        }
    }

    /// Handles a request, or a block of one. Returns whether the association is open.
    fn request(&mut self, exchange: Exchange, request: Parts) -> bool {
        let SecurityAssociation { id, credential_id, .. } = &self.session.active.association;
        let of = (id, credential_id);
        let step = self.shared.transfers().receive(of, request, self.last_message.into());
        match step {
            Step::Answer(response) => self.send_response(exchange, response),
            Step::Request(request) => {
                self.open_path();
                self.serialization = ResponseForm::of(&request).serialization();
                let (pipeline, session) = (self.pipeline, self.session);
                self.in_flight.push(Box::pin(async move {
                    let response = handle(pipeline, session, &request).await;
                    let request = Parts { payload: Bytes::new(), ..request };
                    Answer { exchange, request, response }
                }));
                true
            }
        }
    }

    fn respond(&mut self, Answer { exchange, request, response }: Answer) {
        // The idle time begins with the response.
        self.last_message = Instant::now();
        let SecurityAssociation { id, credential_id, .. } = &self.session.active.association;
        let (of, now) = ((id, credential_id), self.last_message.into());
        let mut transfers = self.shared.transfers();
        let response = transfers.respond_within(self.max_message, of, &request, response, now);
        drop(transfers);
        self.send_response(exchange, response);
    }

    fn send_response(&mut self, exchange: Exchange, response: Parts) -> bool {
        let now = Instant::now();
        let response = bounded(response, self.max_message);
        match self.exchanges.respond(exchange, response, now.into()) {
            Some(datagram) => self.link.send(&datagram),
            None => true,
        }
    }

    /// Sends acknowledgements and repetitions that are due.
    fn poll(&mut self) {
        let now = Instant::now().into();
        let due = self.exchanges.poll(now);
        if let Some(path) = &mut self.path {
            path.not_acknowledged(&due.failed);
            path.expire(&mut self.exchanges, now);
        }
        self.pipeline.count_retransmitted(due.repeated);
        for datagram in due.datagrams {
            self.link.send(&datagram);
        }
    }
}

/// Has a whole request carried out.
async fn handle(pipeline: &Pipeline, session: &Arc<Session>, request: &Parts) -> Parts {
    let form = ResponseForm::of(request);
    let request = match read_request(request) {
        Ok(request) => request,
        Err(refusal) => {
            let BindingError { rsc, request_id, why, .. } = &refusal.error;
            let id = request_id.as_deref().unwrap_or_default();
            audit::undecoded_refused(&session.active.association, id, None, *rsc, why);
            pipeline.count_undecoded(&ResponsePrimitive::refusal(id, None, *rsc, why));
            return write_refusal(&refusal, form);
        }
    };
    let operation = request.operation;
    let HeldResponse { response, memory } = pipeline.handle(session, request).await;
    let response = write_response(response, Some(operation), form);
    // From here on, the limits of transfers apply.
    drop(memory);
    response
}
