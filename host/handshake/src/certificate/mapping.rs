//! The way from a peer's certificate to an entity.
//!
//! An engine verifies a certificate immediately, but the mapping by policy may take time. In TLS
//! 1.2 the server sends the last message. [`Gate`], the stream between engine and socket, holds
//! this message back until the mapping has finished. A peer without an entity then gets an alert
//! and no association. In TLS 1.3 the client sends the last message, and the server awaits the
//! mapping after it.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::SystemTime;

use rustls::pki_types::CertificateDer;
use saegis_certificate::{Purpose, Rejection, Trust, VerifiedPeer};
use saegis_onem2m::credential::Entity;
use saegis_onem2m::id::CredentialId;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::prefixed_stream::PrefixedStream;
use crate::refusal::{Alert, NamedCertificate, NoCredential, Refusal};

/// The certificate or key that a peer presented.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Evidence {
    /// A certificate, followed by the other certificates that were sent.
    Chain(Vec<CertificateDer<'static>>),
    /// A raw public key: its SubjectPublicKeyInfo in DER.
    Key(Vec<u8>),
}

impl Evidence {
    /// Retains only the certificates at these positions. Other certificates that the peer sent are
    /// dropped.
    fn retain_path(self, positions: &[usize]) -> Self {
        match self {
            Self::Chain(chain) => {
                Self::Chain(positions.iter().filter_map(|at| chain.get(*at).cloned()).collect())
            }
            key @ Self::Key(_) => key,
        }
    }

    /// Verifies the certificate or key.
    ///
    /// # Errors
    /// Returns the reason why it is rejected.
    pub fn verify(&self, trust: &Trust, now: SystemTime) -> Result<VerifiedPeer, Rejection> {
        match self {
            Self::Chain(chain) => trust.verify(chain, Purpose::Client, now),
            Self::Key(spki) => trust.verify_key(spki),
        }
    }
}

/// A verified peer, the input of a mapping.
#[derive(Debug, Clone)]
pub struct Shown {
    /// Verified identity, and the end of its validity.
    pub verified: VerifiedPeer,
    /// Certificate or key that proves it.
    pub evidence: Evidence,
    /// Indicated server name, in lower case.
    pub server_name: Option<String>,
}

/// The entity and credential of a new association.
#[derive(Debug)]
pub struct Mapped {
    /// Entity of the peer.
    pub entity: Entity,
    /// Credential-ID.
    pub credential_id: CredentialId,
    /// End of the credential's validity.
    pub expires: Option<SystemTime>,
}

/// The result of a mapping.
pub enum Identified {
    /// The peer is this entity.
    As(Mapped),
    /// The peer has no entity, for this reason in the log.
    Refused(NoCredential),
}

/// The future of a mapping.
pub type Identifying = Pin<Box<dyn Future<Output = Identified> + Send>>;

/// The interface through which a server maps certificates to entities.
pub trait CertificateMapping {
    /// Starts the mapping of a verified peer.
    fn identify(&self, shown: Shown) -> Identifying;
}

/// The result for a peer's certificate.
pub(crate) enum Outcome {
    /// The peer presented no certificate.
    Nothing,
    /// The certificate was rejected.
    Rejected(Rejection, Option<Box<NamedCertificate>>),
    /// The certificate has an entity.
    Mapped(Mapped),
    /// The certificate has no entity.
    Unmapped { identity: String, why: NoCredential },
}

/// Returns the refusal of a rejected certificate.
pub(crate) fn rejected(rejection: Rejection, named: Option<Box<NamedCertificate>>) -> Refusal {
    match named {
        Some(named) => Refusal::NamedCertificate { rejection, named },
        None => Refusal::Certificate(rejection),
    }
}

enum State {
    Pending { identity: String, identifying: Identifying },
    Known(Outcome),
}

/// The shared state of a handshake: the engine's verifier stores the certificate, the gate and the
/// server read the result of its mapping.
pub(crate) struct Slot {
    state: Mutex<State>,
    trust: Arc<Trust>,
    server_name: Option<String>,
    mapping: Arc<dyn CertificateMapping + Send + Sync>,
    /// Whether the engine itself rejects the certificate and sends the alert.
    engine_rejects: bool,
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Slot")
    }
}

impl Slot {
    pub fn new(
        trust: Arc<Trust>,
        server_name: Option<String>,
        mapping: Arc<dyn CertificateMapping + Send + Sync>,
        engine_rejects: bool,
    ) -> Arc<Self> {
        let state = Mutex::new(State::Known(Outcome::Nothing));
        Arc::new(Self { state, trust, server_name, mapping, engine_rejects })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    /// Verifies a peer's certificate or key, and starts the mapping.
    pub fn present(&self, evidence: Evidence, now: SystemTime) -> Result<(), Rejection> {
        let result = evidence.verify(&self.trust, now);
        let mut state = self.state();
        match result {
            Ok(verified) => {
                let identity = verified.identity.to_string();
                let evidence = evidence.retain_path(&verified.chain);
                let server_name = self.server_name.clone();
                let shown = Shown { verified, evidence, server_name };
                *state = State::Pending { identity, identifying: self.mapping.identify(shown) };
                Ok(())
            }
            Err(rejection) => {
                let named = match &evidence {
                    Evidence::Chain(chain) => chain.first().and_then(NamedCertificate::of),
                    Evidence::Key(_) => None,
                };
                *state = State::Known(Outcome::Rejected(rejection.clone(), named.map(Box::new)));
                Err(rejection)
            }
        }
    }

    /// Marks the certificate as rejected.
    pub fn reject(&self, rejection: Rejection) {
        *self.state() = State::Known(Outcome::Rejected(rejection, None));
    }

    /// Polls the mapping, and returns the alert if the peer is refused.
    fn poll_refused(&self, cx: &mut Context<'_>) -> Poll<Option<Alert>> {
        let mut state = self.state();
        if let State::Pending { identity, identifying } = &mut *state {
            let outcome = match ready!(identifying.as_mut().poll(cx)) {
                Identified::As(mapped) => Outcome::Mapped(mapped),
                Identified::Refused(why) => {
                    Outcome::Unmapped { identity: std::mem::take(identity), why }
                }
            };
            *state = State::Known(outcome);
        }
        Poll::Ready(match &*state {
            State::Known(Outcome::Unmapped { .. }) => Some(Alert::AccessDenied),
            State::Known(Outcome::Rejected(rejection, _)) if !self.engine_rejects => {
                Some(Alert::of(rejection))
            }
            State::Known(_) | State::Pending { .. } => None,
        })
    }

    /// Waits for the mapping, and returns the result.
    pub async fn outcome(&self) -> Outcome {
        poll_fn(|cx| self.poll_refused(cx)).await;
        self.outcome_so_far()
    }

    /// Returns the present result. A mapping that was not polled yet is dropped: the peer has not
    /// proved that it has the private key.
    pub fn outcome_so_far(&self) -> Outcome {
        match std::mem::replace(&mut *self.state(), State::Known(Outcome::Nothing)) {
            State::Known(outcome) => outcome,
            State::Pending { .. } => Outcome::Nothing,
        }
    }

    /// Returns the alert for a rejected certificate, unless the engine sends it.
    fn rejected(&self) -> Option<Alert> {
        match &*self.state() {
            State::Known(Outcome::Rejected(rejection, _)) if !self.engine_rejects => {
                Some(Alert::of(rejection))
            }
            State::Known(_) | State::Pending { .. } => None,
        }
    }
}

/// Content type of alerts.
const ALERT: u8 = 21;

/// The stream between engine and socket. It holds all output back while a mapping is pending, and
/// sends an alert if the peer is refused.
pub(super) struct Gate<S> {
    socket: PrefixedStream<S>,
    slot: Option<Arc<Slot>>,
    refused: bool,
}

impl<S> Gate<S> {
    pub fn new(socket: S, first_flight: Vec<u8>, slot: Arc<Slot>) -> Self {
        Self { socket: PrefixedStream::new(socket, first_flight), slot: Some(slot), refused: false }
    }

    /// Passes everything through from now on, because the engine has finished.
    pub fn open(&mut self) {
        self.slot = None;
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gate<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_read(cx, out)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gate<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let denied = || io::Error::new(io::ErrorKind::PermissionDenied, "the peer is refused");
        if this.refused {
            return Poll::Ready(Err(denied()));
        }
        // The engine's own alert does not wait for the mapping: its recipient has not
        // authenticated.
        let is_alert = bytes.first() == Some(&ALERT);
        let refused = match &this.slot {
            None => None,
            Some(slot) if is_alert => slot.rejected(),
            Some(slot) => ready!(slot.poll_refused(cx)),
        };
        if let Some(alert) = refused {
            this.refused = true;
            // The alert has seven bytes. If the socket does not accept them, the peer sees the end
            // of the connection.
            let _ = Pin::new(&mut this.socket).poll_write(cx, &alert.record());
            return Poll::Ready(Err(denied()));
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
