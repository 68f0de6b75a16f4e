//! One connection, from its first byte to its end.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::net::{RecvFlags, recv};
use saegis_handshake::{Accepted, FirstFlight, Offer, Refusal, TlsStream};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::binding::http::{self, Exchange, HttpTimeouts, Served};
use crate::binding::{mqtt, websocket};
use crate::listener::peer_limits::ActiveHandshake;
use crate::listener::yielding_writer::{WriteTurns, YieldingWriter};
use crate::pipeline::Pipeline;
use crate::server::served_session::ServedSession;
use crate::session::Session;
use crate::session::revalidation::{CredentialRevalidation, PolicyLookup, PolicyMapping};
use crate::state::Gateway;
use crate::telemetry::audit;

/// Timeout for a rejected peer to read the reason.
const LINGER_TIMEOUT: Duration = Duration::from_secs(1);

/// Reason for ending a handshake that another peer displaced.
pub(super) const DISPLACED: &str =
    "all handshake slots are in use, and the network of the peer has the most of them";

/// The protocol that a listener serves over its associations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP and WebSocket.
    Http,
    /// MQTT.
    Mqtt,
}

/// Time in which the first flight of most clients arrives.
const FIRST_FLIGHT_SOON: Duration = Duration::from_millis(50);

/// Maximum size of a first flight that is read when the connection is accepted, in bytes.
const MAX_READ_AT_ONCE: usize = 2048;

/// An accepted connection.
pub struct AcceptedConnection {
    gateway: Arc<Gateway>,
    socket: TcpStream,
    /// The part of the first flight that has been read.
    read: Vec<u8>,
    client: Client,
    active: ActiveHandshake,
}

/// The client of a connection.
#[derive(Clone, Copy)]
pub struct Client {
    /// Its address.
    pub peer: SocketAddr,
    /// Address of the load balancer that forwards the connection and named the client.
    pub proxy: Option<IpAddr>,
    /// Time at which the connection was accepted.
    pub start: Instant,
}

/// The state of a connection after it was accepted.
pub enum FirstFlightState {
    /// Its first flight has arrived.
    Received(FirstFlightReceived),
    /// It must wait for its first flight, or that is to be refused.
    Pending(AcceptedConnection),
}

/// A connection with a complete first flight.
pub struct FirstFlightReceived {
    gateway: Arc<Gateway>,
    socket: TcpStream,
    flight: FirstFlight,
    client: Client,
    active: ActiveHandshake,
}

impl AcceptedConnection {
    /// Takes an accepted connection.
    pub fn new(
        gateway: Arc<Gateway>,
        socket: TcpStream,
        client: Client,
        active: ActiveHandshake,
    ) -> Self {
        // Primitives are small and answered one by one.
        let _ = socket.set_nodelay(true);
        Self { gateway, socket, read: Vec::new(), client, active }
    }

    /// Reads a first flight that has already arrived, which is usual when the gateway is busy.
    pub fn read_at_once(self) -> FirstFlightState {
        let mut read = Vec::with_capacity(MAX_READ_AT_ONCE);
        // Tokio would first wait for the socket to be ready. After an error, the stream has ended.
        let received = recv(&self.socket, spare_capacity(&mut read), RecvFlags::DONTWAIT);
        if received.is_err() {
            return FirstFlightState::Pending(self);
        }
        self.received(read)
    }

    /// Reads a first flight that arrives soon, as that of a client that does not stall. One whose first
    /// part is not all of it takes longer.
    pub async fn read_soon(self) -> FirstFlightState {
        if !self.read.is_empty() {
            return FirstFlightState::Pending(self);
        }
        let mut read = Vec::with_capacity(MAX_READ_AT_ONCE);
        let receive = async {
            loop {
                self.socket.readable().await?;
                // After a header of a load balancer, Tokio does not know yet that no byte follows.
                match self.socket.try_read_buf(&mut read) {
                    Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                    received => return received,
                }
            }
        };
        match tokio::time::timeout(FIRST_FLIGHT_SOON, receive).await {
            Ok(Ok(_)) => self.received(read),
            Ok(Err(_)) | Err(_) => FirstFlightState::Pending(self),
        }
    }

    fn received(mut self, read: Vec<u8>) -> FirstFlightState {
        match FirstFlight::complete(read) {
            Ok(flight) => {
                let Self { gateway, socket, client, active, .. } = self;
                active.has_begun();
                FirstFlightState::Received(FirstFlightReceived {
                    gateway,
                    socket,
                    flight,
                    client,
                    active,
                })
            }
            Err(read) => {
                self.read = read;
                FirstFlightState::Pending(self)
            }
        }
    }

    /// Reads the first flight of a client. Returns `None` if the client was rejected.
    pub async fn read(self) -> Option<FirstFlightReceived> {
        let Self { gateway, mut socket, read, client, active } = self;
        // A client sends its first flight at once. The longer timeout for the rest is for devices that
        // compute slowly.
        let timeout = gateway.config.limits.first_flight();
        let reading = async {
            let flight = FirstFlight::read_after(read, &mut socket);
            match tokio::time::timeout(timeout, flight).await {
                Ok(Ok(flight)) => Ok((flight, socket)),
                Ok(Err(refusal)) => Err(reject_before_handshake(socket, refusal).await),
                Err(_) => Err(Refusal::Connection(ErrorKind::TimedOut.into())),
            }
        };
        let read = tokio::select! {
            read = reading => read,
            // The handshake has not failed, so it does not count as failed. It ends before it is
            // logged, so that a reader of the log line can start another one.
            () = active.displaced() => {
                drop(active);
                refused(&gateway, client.peer, "displaced", DISPLACED);
                return None;
            }
        };
        match read {
            Ok((flight, socket)) => {
                active.has_begun();
                Some(FirstFlightReceived { gateway, socket, flight, client, active })
            }
            Err(refusal) => {
                failed(&gateway, client.peer, active, &refusal);
                None
            }
        }
    }
}

pub(super) fn refused(gateway: &Gateway, peer: SocketAddr, cause: &'static str, why: &str) {
    gateway.metrics.refused(cause);
    audit::handshake_refused(peer, cause, why);
}

pub(super) fn failed(
    gateway: &Gateway,
    peer: SocketAddr,
    active: ActiveHandshake,
    refusal: &Refusal,
) {
    // Counted before it is logged, so that a reader of the log line sees the new count.
    active.failed();
    match refusal {
        Refusal::Connection(e) if e.kind() == ErrorKind::TimedOut => {
            refused(gateway, peer, "timeout", "the client's first flight took too long");
        }
        refusal => {
            gateway.metrics.refused(refusal.cause());
            audit::handshake_of_refused(peer, refusal.cause(), &refusal.to_string(), Some(refusal));
        }
    }
}

impl FirstFlightReceived {
    /// Establishes the association. Returns `None` if the client was refused. The handshake counts as
    /// active until it is complete and has one of the `permits` for associations, which is released
    /// with the last request.
    pub async fn establish(
        self,
        permits: Arc<Semaphore>,
        turns: WriteTurns,
    ) -> Option<Box<EstablishedConnection>> {
        let Self { gateway, socket, flight, client: Client { peer, proxy, start }, active } = self;
        let deadline = start + gateway.config.limits.handshake();
        let refused = |cause, why: &str| refused(&gateway, peer, cause, why);
        let outcome = tokio::select! {
            outcome = timeout_at(deadline, handshake(&gateway, socket, peer, flight)) => outcome,
            () = active.displaced() => {
                drop(active);
                refused("displaced", DISPLACED);
                return None;
            }
        };
        let (accepted, evidence) = match outcome {
            Ok(Ok(accepted)) => accepted,
            Ok(Err(refusal)) => {
                failed(&gateway, peer, active, &refusal);
                return None;
            }
            Err(_) => {
                active.failed();
                refused("timeout", "the handshake took too long");
                return None;
            }
        };
        let Accepted { mut association, stream, exported } = accepted;
        association.proxy = proxy;
        let mut stream = YieldingWriter::new(stream, &turns);
        // At the limit it waits for another association to end, because it is authenticated by now.
        let permit = tokio::select! {
            permit = timeout_at(deadline, permits.acquire_owned()) => permit,
            () = active.displaced() => {
                drop(active);
                refused("displaced", DISPLACED);
                lingering_close(&mut stream).await;
                return None;
            }
        };
        // The semaphore is never closed.
        let Ok(Ok(permit)) = permit else {
            refused("no-place", "the maximum number of associations is reached");
            lingering_close(&mut stream).await;
            return None;
        };
        drop(active);
        let begin =
            ServedSession::begin(&gateway, (association, exported), evidence, permit, start);
        let served = begin.await;
        Some(Box::new(EstablishedConnection { served, stream, gateway }))
    }
}

/// A connection with an established association.
pub struct EstablishedConnection {
    served: ServedSession,
    stream: YieldingWriter<Pin<Box<dyn TlsStream<TcpStream>>>>,
    gateway: Arc<Gateway>,
}

impl EstablishedConnection {
    /// Serves the connection until it ends. `stop` finishes the current request and ends the
    /// connection.
    pub async fn serve(mut self: Box<Self>, protocol: Protocol, stop: CancellationToken) {
        let Self { served, stream, gateway } = &mut *self;
        let session = &served.session;
        let pipeline = Pipeline::new(gateway.clone());
        // Boxed, so that each association has the memory of its own protocol only.
        let why = match protocol {
            Protocol::Http => Box::pin(serve_http(stream, pipeline, session, &stop)).await,
            Protocol::Mqtt => Box::pin(mqtt::serve(stream, pipeline, session.clone(), &stop)).await,
        };
        // Boxed for the same reason: an association does not have the memory of its end.
        Box::pin(async {
            if session.has_acknowledged() {
                lingering_close(stream).await;
            }
            served.close().await;
            lingering_close(stream).await;
        })
        .await;
        served.log_end(why);
    }
}

async fn handshake(
    gateway: &Arc<Gateway>,
    socket: TcpStream,
    peer: SocketAddr,
    flight: FirstFlight,
) -> Result<(Accepted<TcpStream>, CredentialRevalidation), Refusal> {
    if flight.offer() == Offer::Certificates {
        return with_certificates(gateway, socket, peer, flight).await;
    }
    let lookup = Arc::new(PolicyLookup::new(gateway.policy.clone(), peer.ip()));
    let id = gateway.next_association();
    let accepted = gateway.psk.accept(id, peer, socket, flight, lookup.clone()).await?;
    match lookup.evidence() {
        Some(evidence) => Ok((accepted, evidence)),
        None => Err(Refusal::Protocol("the handshake finished without a lookup".into())),
    }
}

async fn with_certificates(
    gateway: &Arc<Gateway>,
    socket: TcpStream,
    peer: SocketAddr,
    flight: FirstFlight,
) -> Result<(Accepted<TcpStream>, CredentialRevalidation), Refusal> {
    let generation = gateway.policy.current();
    let offered = flight.certificates();
    let engine = match gateway.certificate_engine(&generation) {
        Ok(Some(engine)) if offered.current || offered.mandated => engine,
        Ok(Some(_)) => return Err(reject_before_handshake(socket, Refusal::NoCommonSuite).await),
        Ok(None) if offered.psk_of_tls13 => {
            return Err(reject_before_handshake(socket, Refusal::PskOfTls13).await);
        }
        Ok(None) => return Err(reject_before_handshake(socket, Refusal::CertificatesOnly).await),
        Err(e) => {
            return Err(reject_before_handshake(socket, Refusal::Protocol(e.to_string())).await);
        }
    };
    let mapping = Arc::new(PolicyMapping::new(generation, gateway.rules.clone(), peer.ip()));
    let id = gateway.next_association();
    let accepted = engine.accept(id, peer, socket, flight, mapping.clone()).await?;
    match mapping.evidence() {
        Some(evidence) => Ok((accepted, evidence)),
        None => Err(Refusal::Protocol("the handshake finished without a certificate".into())),
    }
}

/// Serves HTTP over an association, and WebSocket after an upgrade. Returns why it ended.
async fn serve_http(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    pipeline: Pipeline,
    session: &Arc<Session>,
    stop: &CancellationToken,
) -> &'static str {
    let limits = pipeline.limits();
    let timeouts = HttpTimeouts {
        idle: Duration::from_secs(limits.idle_seconds),
        answer: Duration::from_secs(limits.response_seconds),
    };
    let exchange = Arc::new(Exchange::new(pipeline.clone(), session.clone()));
    match http::serve(stream, &session.active, &exchange, timeouts, stop).await {
        Served::Ended(why) => why,
        Served::Upgraded(serialization, read) => {
            drop(exchange);
            let session = (pipeline, session.clone(), serialization);
            // Boxed, because most associations do not need its memory.
            Box::pin(websocket::serve(stream, read, session, stop)).await
        }
    }
}

/// Rejects a client before the handshake, in the protocol that it uses.
async fn reject_before_handshake(mut socket: TcpStream, refusal: Refusal) -> Refusal {
    const HTTP: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\n\
        Content-Length: 56\r\nConnection: close\r\n\r\n\
        This port takes oneM2M requests over TLS; use https://.\n";
    // A closed connection receives no reason.
    if matches!(refusal, Refusal::Connection(_)) {
        return refusal;
    }
    let say = async {
        match (refusal.alert(), &refusal) {
            (Some(alert), _) => alert.send(&mut socket).await?,
            (None, Refusal::PlainHttp) => socket.write_all(HTTP).await?,
            (None, _) => {}
        }
        std::io::Result::Ok(())
    };
    // Delivery is best effort.
    let _ = tokio::time::timeout(LINGER_TIMEOUT, say).await;
    lingering_close(&mut socket).await;
    refusal
}

/// Closes the write side and drains the read side, so that the peer receives pending data instead
/// of a TCP reset.
async fn lingering_close(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    let leave = async {
        // The write side may be closed already. Closing it again fails if there are bytes to read.
        let _ = stream.shutdown().await;
        // Bytes that the peer is still sending must not make the kernel drop the response.
        tokio::io::copy(stream, &mut tokio::io::sink()).await
    };
    let _ = tokio::time::timeout(LINGER_TIMEOUT, leave).await;
}
