//! The server's end.

use std::sync::{Arc, Mutex, OnceLock};

use openssl::error::ErrorStack;
use openssl::ex_data::Index;
use openssl::ssl::{ErrorCode, Ssl, SslContext, SslRef};
use rand::RngExt;
use saegis_onem2m::association::{Established, SecurityAssociation};
use saegis_onem2m::credential::{Credential, PresharedKey};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_openssl::SslStream;

use super::client_key_exchange_gate::{ClientKeyExchangeGate, LookupFuture};
use super::lookup::{Answer, CredentialLookup, MAX_IDENTITY, Query};
use crate::EngineError;
use crate::accepted::{Accepted, export, openssl_server};
use crate::client_hello::FirstFlight;
use crate::refusal::Refusal;
use crate::suite::Suite;

/// The engine of the server's end.
#[derive(Clone)]
pub struct Server {
    context: SslContext,
    exports: bool,
}

/// Where the look-up leaves its answer and the engine's callback finds it.
#[derive(Default)]
struct Slot(Mutex<State>);

#[derive(Default)]
enum State {
    /// No identity has been seen.
    #[default]
    Nothing,
    /// The identity can't be one.
    Malformed(&'static str),
    /// There is no credential.
    Refused { identity: String, why: String },
    /// There is one.
    Found { identity: String, credential: Credential },
}

impl Slot {
    fn set(&self, state: State) {
        if let Ok(mut place) = self.0.lock() {
            *place = state;
        }
    }

    fn take(&self) -> State {
        self.0.lock().map(|mut place| std::mem::take(&mut *place)).unwrap_or_default()
    }
}

impl Server {
    /// Sets the engine up: TLS 1.2, the suites in their order of preference, no resumption, no
    /// renegotiation, no compression; extended master secret and encrypt-then-MAC wherever the
    /// client has them.
    ///
    /// # Errors
    /// When OpenSSL does not take the suites.
    pub fn new(suites: &[Suite]) -> Result<Self, EngineError> {
        let mut builder = openssl_server(&Suite::openssl_list(suites))?;
        builder.set_psk_server_callback(|ssl, identity, place| Ok(give_key(ssl, identity, place)));
        Ok(Self { context: builder.build(), exports: false })
    }

    /// With a key exported from each session.
    #[must_use]
    pub fn exporting(self) -> Self {
        Self { exports: true, ..self }
    }

    /// Takes a connection whose first flight has been read, to an association of the number `id`.
    /// The caller bounds the time.
    ///
    /// An identity without a credential gets a random key, so that from outside it can't be told
    /// from a wrong key (RFC 4279 clause 5.4).
    ///
    /// # Errors
    /// Why there is no association. The engine has sent the alert.
    pub async fn accept<S>(
        &self,
        id: u64,
        peer: std::net::SocketAddr,
        socket: S,
        flight: FirstFlight,
        lookup: Arc<dyn CredentialLookup + Send + Sync>,
    ) -> Result<Accepted<S>, Refusal>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let engine = |e: ErrorStack| Refusal::Protocol(e.to_string());
        let slot = Arc::new(Slot::default());
        let mut ssl = Ssl::new(&self.context).map_err(engine)?;
        ssl.set_ex_data(slot_index().map_err(engine)?, slot.clone());
        let (bytes, server_name) = flight.into_parts();
        let answers = slot.clone();
        let ask = move |identity: &[u8]| ask(identity, server_name, &lookup, answers);
        let held = ClientKeyExchangeGate::new(socket, bytes, ask);
        let mut stream = Box::pin(SslStream::new(ssl, held).map_err(engine)?);
        let outcome = stream.as_mut().accept().await;
        let held = stream.as_mut().get_pin_mut().get_mut();
        match &outcome {
            Ok(()) => held.finished(),
            Err(_) => held.send_alert().await,
        }
        match (outcome, slot.take()) {
            (Ok(()), State::Found { credential, .. }) => {
                let ssl = stream.ssl();
                let association = SecurityAssociation::new(
                    id,
                    Established {
                        saef: credential.saef,
                        credential_id: credential.id,
                        entity: credential.entity,
                        peer,
                        protocol: ssl.version_str(),
                        suite: super::lookup::suite_name(ssl),
                        expires: credential.expires,
                    },
                );
                let exported = self.exports.then(|| export(stream.ssl())).flatten();
                Ok(Accepted { association, stream, exported })
            }
            // Not reached while keys come from credentials alone; and if it were, no entity.
            (Ok(()), _) => Err(Refusal::Protocol("the handshake finished without a key".into())),
            (Err(_), State::Malformed(why)) => Err(Refusal::MalformedIdentity(why)),
            (Err(_), State::Refused { identity, why }) => Err(Refusal::Identity { identity, why }),
            (Err(error), State::Found { identity, .. }) if is_bad_mac(&error) => {
                Err(Refusal::WrongKey { identity })
            }
            (Err(error), State::Found { .. } | State::Nothing) => Err(failed(error)),
        }
    }
}

pub(crate) fn failed(error: openssl::ssl::Error) -> Refusal {
    let text = error.to_string();
    match error.into_io_error() {
        Ok(io) => Refusal::Connection(io),
        Err(error) if error.code() == ErrorCode::SYSCALL => {
            Refusal::Connection(std::io::ErrorKind::UnexpectedEof.into())
        }
        Err(_) => Refusal::Protocol(text),
    }
}

/// The first record under a wrong key fails its MAC; with CBC suites OpenSSL says the one or the
/// other.
fn is_bad_mac(error: &openssl::ssl::Error) -> bool {
    let reasons = error.ssl_error().map(|stack| stack.errors()).unwrap_or_default();
    reasons
        .iter()
        .filter_map(|e| e.reason())
        .any(|reason| reason.contains("bad record mac") || reason.contains("digest check failed"))
}

fn slot_index() -> Result<Index<Ssl, Arc<Slot>>, ErrorStack> {
    static INDEX: OnceLock<Index<Ssl, Arc<Slot>>> = OnceLock::new();
    match INDEX.get() {
        Some(index) => Ok(*index),
        None => {
            let index = Ssl::new_ex_index()?;
            Ok(*INDEX.get_or_init(|| index))
        }
    }
}

/// Starts the look-up of an identity, if it can be one.
fn ask(
    identity: &[u8],
    server_name: Option<String>,
    lookup: &Arc<dyn CredentialLookup + Send + Sync>,
    slot: Arc<Slot>,
) -> LookupFuture {
    let psk_identity = match well_formed(identity) {
        Ok(text) => text.to_string(),
        Err(why) => {
            slot.set(State::Malformed(why));
            return Box::pin(std::future::ready(()));
        }
    };
    let identity = psk_identity.clone();
    let looking = lookup.lookup(Query { psk_identity, server_name });
    Box::pin(async move {
        slot.set(match looking.await {
            Answer::Found(credential) => State::Found { identity, credential },
            Answer::Refused(why) => State::Refused { identity, why },
        });
    })
}

/// OpenSSL hands identities over as C strings, and so would cut one with a NUL in it.
fn well_formed(identity: &[u8]) -> Result<&str, &'static str> {
    match std::str::from_utf8(identity) {
        _ if identity.is_empty() => Err("it is empty"),
        _ if identity.len() > MAX_IDENTITY => Err("it is longer than 256 bytes"),
        _ if identity.contains(&0) => Err("it has a NUL in it"),
        Err(_) => Err("it is not UTF-8"),
        Ok(text) => Ok(text),
    }
}

/// The engine's question for the key of an identity. The credential's key goes out only for the
/// very identity that was looked up; all else gets a key that nobody has.
fn give_key(ssl: &mut SslRef, identity: Option<&[u8]>, place: &mut [u8]) -> usize {
    let slot = slot_index().ok().and_then(|index| ssl.ex_data(index)).cloned();
    if let Some(slot) = slot
        && let Ok(state) = slot.0.lock()
        && let State::Found { identity: looked_up, credential } = &*state
        && identity == Some(looked_up.as_bytes())
        && let Some(place) = place.get_mut(..credential.key.expose().len())
    {
        place.copy_from_slice(credential.key.expose());
        return place.len();
    }
    let decoy: [u8; PresharedKey::MAX_LEN / 2] = rand::rng().random();
    match place.get_mut(..decoy.len()) {
        Some(place) => {
            place.copy_from_slice(&decoy);
            place.len()
        }
        None => 0,
    }
}
