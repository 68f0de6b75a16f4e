//! From what a peer shows to whom it stands for.
//!
//! An engine verifies a certificate at once, and policy's answer may take its time. In TLS 1.2 the
//! server speaks last: the stream between engine and socket holds that back until the answer is
//! there, so that a peer which stands for nobody gets an alert and no association. In TLS 1.3 the
//! client speaks last, and the answer is awaited after it.

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
use crate::refusal::Alert;

/// What a peer has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Evidence {
    /// A certificate, and the chain that came with it.
    Chain(Vec<CertificateDer<'static>>),
    /// A raw public key: its SubjectPublicKeyInfo in DER.
    Key(Vec<u8>),
}

impl Evidence {
    /// The certificates at these places alone: what else was sent with them is nobody's to keep.
    fn only(self, places: &[usize]) -> Self {
        match self {
            Self::Chain(chain) => {
                Self::Chain(places.iter().filter_map(|at| chain.get(*at).cloned()).collect())
            }
            key @ Self::Key(_) => key,
        }
    }

    /// Asks the one verification.
    ///
    /// # Errors
    /// Why it is not believed.
    pub fn verify(&self, trust: &Trust, now: SystemTime) -> Result<VerifiedPeer, Rejection> {
        match self {
            Self::Chain(chain) => trust.verify(chain, Purpose::Client, now),
            Self::Key(spki) => trust.verify_key(spki),
        }
    }
}

/// What a mapping is asked: a peer that we believe.
#[derive(Debug, Clone)]
pub struct Shown {
    /// Whom it names, and until when.
    pub vouched: VerifiedPeer,
    /// What it has shown.
    pub evidence: Evidence,
    /// The server name indicated, in lower case.
    pub server_name: Option<String>,
}

/// What an association is to be bound to.
#[derive(Debug)]
pub struct Mapped {
    /// Whom it stands for.
    pub entity: Entity,
    /// Its Credential-ID.
    pub credential_id: CredentialId,
    /// From when on it no longer holds.
    pub expires: Option<SystemTime>,
}

/// What a mapping answers.
pub enum Identified {
    /// The peer stands for that entity.
    As(Mapped),
    /// It stands for nobody; why, for the log.
    Refused(String),
}

/// A mapping under way.
pub type Identifying = Pin<Box<dyn Future<Output = Identified> + Send>>;

/// Whom an engine asks for the entity that a certificate stands for.
pub trait CertificateMapping {
    /// Finds it.
    fn identify(&self, shown: Shown) -> Identifying;
}

/// What came of a peer's certificate.
pub(super) enum Outcome {
    /// None was shown.
    Nothing,
    /// It is not believed.
    Rejected(Rejection),
    /// It stands for an entity.
    Mapped(Mapped),
    /// It stands for nobody.
    Unmapped { identity: String, why: String },
}

enum State {
    Asking { identity: String, identifying: Identifying },
    Known(Outcome),
}

/// Where the engine's verifier leaves what it saw, and the gate and whoever waits find the answer.
pub(super) struct Slot {
    state: Mutex<State>,
    trust: Arc<Trust>,
    server_name: Option<String>,
    mapping: Arc<dyn CertificateMapping + Send + Sync>,
    /// Whether the engine itself refuses what is rejected, and sends the alert.
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

    /// Verifies what a peer shows, and starts the mapping.
    pub fn show(&self, evidence: Evidence, now: SystemTime) -> Result<(), Rejection> {
        let verified = evidence.verify(&self.trust, now);
        let mut state = self.state();
        match verified {
            Ok(vouched) => {
                let identity = vouched.identity.to_string();
                let evidence = evidence.only(&vouched.chain);
                let server_name = self.server_name.clone();
                let shown = Shown { vouched, evidence, server_name };
                *state = State::Asking { identity, identifying: self.mapping.identify(shown) };
                Ok(())
            }
            Err(rejection) => {
                *state = State::Known(Outcome::Rejected(rejection.clone()));
                Err(rejection)
            }
        }
    }

    /// Takes what was shown for what can't be believed.
    pub fn reject(&self, rejection: Rejection) {
        *self.state() = State::Known(Outcome::Rejected(rejection));
    }

    /// The alert for what was shown, if it is refused, once that is known.
    fn poll_refused(&self, cx: &mut Context<'_>) -> Poll<Option<Alert>> {
        let mut state = self.state();
        if let State::Asking { identity, identifying } = &mut *state {
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
            State::Known(Outcome::Rejected(rejection)) if !self.engine_rejects => {
                Some(Alert::of(rejection))
            }
            State::Known(_) | State::Asking { .. } => None,
        })
    }

    /// What came of it, once that is known.
    pub async fn outcome(&self) -> Outcome {
        poll_fn(|cx| self.poll_refused(cx)).await;
        self.outcome_so_far()
    }

    /// What has come of it. A mapping that nobody has waited for yet is not asked any more: the peer
    /// has not proved that what it showed is its own.
    pub fn outcome_so_far(&self) -> Outcome {
        match std::mem::replace(&mut *self.state(), State::Known(Outcome::Nothing)) {
            State::Known(outcome) => outcome,
            State::Asking { .. } => Outcome::Nothing,
        }
    }

    /// The alert for what is rejected already, where the engine does not send it itself.
    fn rejected(&self) -> Option<Alert> {
        match &*self.state() {
            State::Known(Outcome::Rejected(rejection)) if !self.engine_rejects => {
                Some(Alert::of(rejection))
            }
            State::Known(_) | State::Asking { .. } => None,
        }
    }
}

/// Content type of alerts.
const ALERT: u8 = 21;

/// The stream between engine and socket: it lets nothing out while an answer is awaited, and an
/// alert where the peer is refused.
pub(super) struct Gate<S> {
    socket: PrefixedStream<S>,
    slot: Option<Arc<Slot>>,
    refused: bool,
}

impl<S> Gate<S> {
    pub fn new(socket: S, first_flight: Vec<u8>, slot: Arc<Slot>) -> Self {
        Self { socket: PrefixedStream::new(socket, first_flight), slot: Some(slot), refused: false }
    }

    /// Lets everything through from now on, for the engine has finished.
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
        // The engine's own alert waits for nothing: whoever gets it has not proved to be anybody.
        let is_alert = bytes.first() == Some(&ALERT);
        let refused = match &this.slot {
            None => None,
            Some(slot) if is_alert => slot.rejected(),
            Some(slot) => ready!(slot.poll_refused(cx)),
        };
        if let Some(alert) = refused {
            this.refused = true;
            // Seven bytes; where the socket does not take them, the peer sees the connection end.
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
