//! Client side of DTLS 1.2, for an AE, a registering CSE, or a CSE that notifies an AE.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use openssl::error::ErrorStack;
use openssl::ssl::{Ssl, SslContext, SslVerifyMode};
use saegis_certificate::{OwnCertificate, Rejection, Trust, VerifiedPeer};
use saegis_onem2m::credential::PresharedKey;
use saegis_onem2m::exported::Exported;
use saegis_onem2m::id::KpsaId;
use tokio::net::UdpSocket;

use super::channel::Channel;
use super::engine::Engine;
use super::link::TICK;
use super::read::Read;
use super::record::records;
use super::server::DEFAULT_MTU;
use crate::accepted::{ConnectError, EngineError, export, openssl_datagram_client};
use crate::certificate::Expected;
use crate::certificate::client::verify_server;
use crate::certificate::openssl_engine::{verify_peer, with_certificate};
use crate::psk::client::{offer_key, refused};
use crate::psk::suite_name;
use crate::suite::{MANDATED_OF_DATAGRAMS_OPENSSL, Suite};

/// Maximum size of a received datagram, in bytes: one record.
const MAX_DATAGRAM: usize = (1 << 14) + 1024;

/// The client side of handshakes with one pre-shared key.
pub struct PskClient(SslContext);

/// The client side of handshakes with one certificate.
pub struct CertificateClient {
    context: SslContext,
    trust: Arc<Trust>,
}

/// An established association over datagrams, on the client side.
pub struct Connected {
    /// Its messages.
    pub connection: Connection,
    /// Negotiated protocol version.
    pub protocol: &'static str,
    /// Negotiated cipher suite, by its registered name.
    pub suite: String,
    /// Exported key material, if the session has extended master secret.
    pub exported: Option<Exported>,
}

impl PskClient {
    /// Creates a client with a KpsaID and its Kpsa.
    ///
    /// # Errors
    /// Returns an error if OpenSSL does not support the suites.
    pub fn new(suites: &[Suite], id: KpsaId, key: PresharedKey) -> Result<Self, EngineError> {
        let mut builder = openssl_datagram_client(&Suite::openssl_list(suites))?;
        offer_key(&mut builder, id, key);
        Ok(Self(builder.build()))
    }

    /// Performs the handshake over a connected socket. A domain name in `server_name` is sent as
    /// server name indication.
    ///
    /// # Errors
    /// Returns the reason why no association was established, at the latest after `timeout`.
    pub async fn connect(
        &self,
        socket: UdpSocket,
        server_name: Option<&str>,
        timeout: Duration,
    ) -> Result<Connected, ConnectError> {
        let ssl = new_ssl(&self.0, server_name).map_err(failure)?;
        let (engine, outcome) = handshake(ssl, &socket, timeout).await?;
        match outcome {
            Outcome::Finished => Ok(connected(engine, socket, None)),
            // The server drops a record under another key (RFC 6347 clause 4.1.2.7).
            Outcome::TimedOut { finished_sent: true } => {
                Err(ConnectError::Refused("no answer to the key exchange".into()))
            }
            Outcome::TimedOut { finished_sent: false } => Err(no_answer()),
            Outcome::Failed(error) => Err(refused(error)),
        }
    }
}

impl CertificateClient {
    /// Creates a client with its own certificate and its trust anchors. It offers the suite that
    /// TS-0003 mandates.
    ///
    /// # Errors
    /// Returns an error if OpenSSL does not support the certificate.
    pub fn new(trust: Arc<Trust>, own: &OwnCertificate) -> Result<Self, EngineError> {
        let builder = openssl_datagram_client(MANDATED_OF_DATAGRAMS_OPENSSL)?;
        let context = with_certificate(builder, own, &trust)?.build();
        Ok(Self { context, trust })
    }

    /// Performs the handshake over a connected socket with a server, whose certificate must prove
    /// the `expected` identity. `name` is the server's domain name or address; a domain name is also
    /// sent as server name indication.
    ///
    /// # Errors
    /// Returns the reason why no association was established, at the latest after `timeout`.
    pub async fn connect(
        &self,
        socket: UdpSocket,
        name: &str,
        expected: Expected,
        timeout: Duration,
    ) -> Result<Connected, ConnectError> {
        let is_address = name.parse::<std::net::IpAddr>().is_ok();
        let mut ssl = new_ssl(&self.context, (!is_address).then_some(name)).map_err(failure)?;
        let verdict = Arc::new(Mutex::new(None));
        let verify = {
            let (trust, name) = (self.trust.clone(), name.to_string());
            move |chain: &[_]| verify_server(&trust, &name, &expected, chain, SystemTime::now())
        };
        let verify = Arc::new(verify);
        let count = {
            let (verify, verdict) = (verify.clone(), verdict.clone());
            verify_peer(&mut ssl, SslVerifyMode::PEER, move |chain| {
                let verified = chain.and_then(|chain| verify(&chain));
                let is_accepted = verified.is_ok();
                *lock(&verdict) = Some(verified);
                is_accepted
            })
        };
        let (engine, outcome) = handshake(ssl, &socket, timeout).await?;
        let verdict = lock(&verdict).take();
        match (outcome, verdict) {
            (_, Some(Err(rejection))) => Err(ConnectError::Server(rejection)),
            (Outcome::TimedOut { .. }, _) => Err(no_answer()),
            (Outcome::Failed(error), _) => Err(certificate_refused(error)),
            // Unreachable as long as the suites need a certificate.
            (Outcome::Finished, None) => Err(ConnectError::Server(Rejection::Missing)),
            (Outcome::Finished, Some(Ok(mut verified))) => {
                let rest = count.rest(engine.ssl()).map_err(ConnectError::Server)?;
                if let Some(sent) = rest {
                    verified = verify(&sent).map_err(ConnectError::Server)?;
                }
                let VerifiedPeer { until, .. } = verified;
                Ok(connected(engine, socket, until))
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn failure(error: ErrorStack) -> ConnectError {
    ConnectError::Failed(error.to_string())
}

fn no_answer() -> ConnectError {
    ConnectError::Failed("timed out".into())
}

fn new_ssl(context: &SslContext, server_name: Option<&str>) -> Result<Ssl, ErrorStack> {
    let mut ssl = Ssl::new(context)?;
    ssl.set_mtu(DEFAULT_MTU)?;
    if let Some(name) = server_name {
        ssl.set_hostname(name)?;
    }
    ssl.set_connect_state();
    Ok(ssl)
}

fn connected(engine: Engine, socket: UdpSocket, until: Option<SystemTime>) -> Connected {
    let ssl = engine.ssl();
    let (protocol, suite, exported) = (ssl.version_str(), suite_name(ssl), export(ssl));
    // The last flight is the server's.
    let channel = Channel::after(engine, Vec::new(), None);
    Connected { connection: Connection { channel, socket, until }, protocol, suite, exported }
}

/// Classifies a failed handshake with certificates by the alert of the server.
fn certificate_refused(error: openssl::ssl::Error) -> ConnectError {
    let text = error.to_string();
    let is_alert = |alert: &&str| text.contains(&format!("alert {alert}"));
    let of_certificate = [
        "bad certificate",
        "unsupported certificate",
        "certificate revoked",
        "certificate expired",
        "certificate unknown",
        "unknown ca",
        "access denied",
        "decrypt error",
    ];
    if of_certificate.iter().any(is_alert) {
        ConnectError::CertificateRefused(text)
    } else if ["handshake failure", "insufficient security"].iter().any(is_alert) {
        ConnectError::NoCommonSuite(text)
    } else {
        ConnectError::Failed(text)
    }
}

/// The end of a handshake.
enum Outcome {
    Finished,
    Failed(openssl::ssl::Error),
    TimedOut {
        /// Whether the client has sent its last flight.
        finished_sent: bool,
    },
}

/// Exchanges the flights of a handshake. OpenSSL repeats a flight after one second, and doubles the
/// time.
async fn handshake(
    ssl: Ssl,
    socket: &UdpSocket,
    timeout: Duration,
) -> Result<(Engine, Outcome), ConnectError> {
    let mut engine = Engine::new(ssl).map_err(failure)?;
    let mut finished_sent = false;
    let exchange = async {
        let mut buffer = vec![0; MAX_DATAGRAM];
        loop {
            let done = engine.handshake();
            for datagram in engine.outgoing() {
                finished_sent |= records(&datagram).any(|record| record.epoch > 0);
                socket.send(&datagram).await?;
            }
            match done {
                Ok(true) => return Ok(Outcome::Finished),
                Ok(false) => {}
                Err(error) => return Ok(Outcome::Failed(error)),
            }
            let received = tokio::time::timeout(TICK, socket.recv(&mut buffer)).await;
            // Without a datagram, it is time to check for a repetition.
            if let Ok(length) = received {
                engine.push(buffer.get(..length?).unwrap_or_default().into());
            }
        }
    };
    let outcome = match tokio::time::timeout(timeout, exchange).await {
        Ok(outcome) => outcome.map_err(|e: io::Error| ConnectError::Failed(e.to_string()))?,
        Err(_) => Outcome::TimedOut { finished_sent },
    };
    Ok((engine, outcome))
}

/// The messages of an association, with its socket.
pub struct Connection {
    channel: Channel,
    socket: UdpSocket,
    /// End of validity of the server's certificate, after which nothing is sent.
    until: Option<SystemTime>,
}

impl Connection {
    /// Sends a message.
    ///
    /// # Errors
    /// Returns an error if the association is closed, or the certificate of the server has expired.
    pub async fn send(&mut self, message: &[u8]) -> io::Result<()> {
        if self.until.is_some_and(|at| at <= SystemTime::now()) {
            return Err(io::Error::other("the other end's certificate has expired"));
        }
        if !self.channel.send(message) {
            return Err(closed());
        }
        for datagram in self.channel.outgoing() {
            self.socket.send(&datagram).await?;
        }
        Ok(())
    }

    /// Waits for a datagram, and returns the messages in it. A datagram that is not authentic has
    /// none. A caller that stops waiting loses no datagram.
    ///
    /// # Errors
    /// Returns an error if the peer closed the association, or cannot be reached.
    pub async fn receive(&mut self) -> io::Result<Vec<Vec<u8>>> {
        let datagram = loop {
            self.socket.readable().await?;
            let mut datagram = Vec::with_capacity(MAX_DATAGRAM);
            match self.socket.try_recv_buf(&mut datagram) {
                Ok(_) => break datagram,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        };
        let received = self.channel.receive(datagram);
        for answer in self.channel.outgoing() {
            // A lost answer is asked for again.
            let _ = self.socket.try_send(&answer);
        }
        match received {
            Read::Messages(messages) => Ok(messages),
            Read::Closed => Err(closed()),
        }
    }

    /// Ends the association with an alert to the peer.
    pub fn close(&mut self) {
        self.channel.close();
        for datagram in self.channel.outgoing() {
            let _ = self.socket.try_send(&datagram);
        }
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the other end closed the association")
}
