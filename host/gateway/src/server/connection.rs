//! One connection, from its first byte to its end.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::net::{RecvFlags, recv};
use saegis_handshake::{Accepted, FirstFlight, Offer, Refusal};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::binding::http::{self, Exchange, HttpTimeouts, Served};
use crate::binding::{mqtt, websocket};
use crate::listener::peer_limits::ActiveHandshake;
use crate::listener::yielding_writer::YieldingWriter;
use crate::pipeline::Pipeline;
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

/// Maximum size of a first flight that is read when the connection is accepted, in bytes.
const MAX_READ_AT_ONCE: usize = 2048;

/// An accepted connection.
pub struct AcceptedConnection {
    gateway: Arc<Gateway>,
    socket: TcpStream,
    /// The part of the first flight that has been read.
    read: Vec<u8>,
    peer: SocketAddr,
    active: ActiveHandshake,
    start: Instant,
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
    peer: SocketAddr,
    active: ActiveHandshake,
    start: Instant,
}

impl AcceptedConnection {
    /// Takes an accepted connection.
    pub fn new(
        gateway: Arc<Gateway>,
        socket: TcpStream,
        peer: SocketAddr,
        active: ActiveHandshake,
    ) -> Self {
        // Primitives are small and answered one by one.
        let _ = socket.set_nodelay(true);
        Self { gateway, socket, read: Vec::new(), peer, active, start: Instant::now() }
    }

    /// Reads a first flight that has already arrived, which is usual when the gateway is busy.
    pub fn read_at_once(mut self) -> FirstFlightState {
        let mut read = Vec::with_capacity(MAX_READ_AT_ONCE);
        // Tokio would first wait for the socket to be ready. After an error, the stream has ended.
        let received = recv(&self.socket, spare_capacity(&mut read), RecvFlags::DONTWAIT);
        if received.is_err() {
            return FirstFlightState::Pending(self);
        }
        match FirstFlight::complete(read) {
            Ok(flight) => {
                let Self { gateway, socket, peer, active, start, .. } = self;
                active.has_begun();
                FirstFlightState::Received(FirstFlightReceived {
                    gateway,
                    socket,
                    flight,
                    peer,
                    active,
                    start,
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
        let Self { gateway, mut socket, read, peer, active, start } = self;
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
            // The handshake has not failed, so it does not count as failed.
            () = active.displaced() => {
                refused(&gateway, peer, "displaced", DISPLACED);
                return None;
            }
        };
        match read {
            Ok((flight, socket)) => {
                active.has_begun();
                Some(FirstFlightReceived { gateway, socket, flight, peer, active, start })
            }
            Err(refusal) => {
                failed(&gateway, peer, active, &refusal);
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
        refusal => refused(gateway, peer, refusal.cause(), &refusal.to_string()),
    }
}

impl FirstFlightReceived {
    /// Serves the connection until it ends. The handshake counts as active until it is complete and
    /// has one of the `permits` for associations, which is released with the last request. `stop`
    /// finishes the current request and ends the connection.
    pub async fn serve(self, protocol: Protocol, permits: Arc<Semaphore>, stop: CancellationToken) {
        let Self { gateway, socket, flight, peer, active, start } = self;
        let deadline = start + gateway.config.limits.handshake();
        let refused = |cause, why: &str| refused(&gateway, peer, cause, why);
        // Boxed, so that the memory of the handshake and of a request is released when the
        // association is idle.
        let shaking_hands = Box::pin(handshake(&gateway, socket, peer, flight));
        let outcome = tokio::select! {
            outcome = timeout_at(deadline, shaking_hands) => outcome,
            () = active.displaced() => return refused("displaced", DISPLACED),
        };
        let (accepted, evidence) = match outcome {
            Ok(Ok(accepted)) => accepted,
            Ok(Err(refusal)) => return failed(&gateway, peer, active, &refusal),
            Err(_) => {
                active.failed();
                return refused("timeout", "the handshake took too long");
            }
        };
        let Accepted { association, stream, exported } = accepted;
        let mut stream = YieldingWriter::new(stream);
        // At the limit it waits for another association to end, because it is authenticated by now.
        let permit = tokio::select! {
            permit = timeout_at(deadline, permits.acquire_owned()) => permit,
            () = active.displaced() => {
                refused("displaced", DISPLACED);
                return lingering_close(&mut stream).await;
            }
        };
        // The semaphore is never closed.
        let Ok(Ok(permit)) = permit else {
            refused("no-place", "the maximum number of associations is reached");
            return lingering_close(&mut stream).await;
        };
        drop(active);
        let saef = association.saef;
        tracing::Span::current().record("association", association.id);
        gateway.metrics.established(saef, start.elapsed());
        let listed = gateway
            .associations
            .list(association, evidence, &gateway.policy, &gateway.ae_ids)
            .await;
        gateway.aes.note(&listed.live);
        let memory = gateway.response_memory.share_of(&listed.live.association.credential_id);
        let session = Arc::new(Session::new(listed.live.clone(), exported, memory, permit));
        let pipeline = Pipeline::new(gateway.clone());
        let why = match protocol {
            Protocol::Http => serve_http(&mut stream, pipeline, &session, &stop).await,
            // Boxed, because most associations do not need its memory.
            Protocol::Mqtt => {
                Box::pin(mqtt::serve(&mut stream, pipeline, session.clone(), &stop)).await
            }
        };
        if session.has_acknowledged() {
            lingering_close(&mut stream).await;
            session.acknowledged_are_done().await;
        }
        listed.live.close().await;
        gateway.metrics.ended(saef);
        lingering_close(&mut stream).await;
        audit::ended(&listed.live.association, why);
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
