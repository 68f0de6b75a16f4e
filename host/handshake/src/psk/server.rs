//! Server side with pre-shared keys.

use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock};

use openssl::error::ErrorStack;
use openssl::ex_data::Index;
use openssl::ssl::{ErrorCode, Ssl, SslContext, SslRef};
use rand::RngExt;
use saegis_onem2m::association::{Established, SecurityAssociation};
use saegis_onem2m::credential::{Credential, PresharedKey};
use zeroize::Zeroizing;

use super::client_key_exchange_gate::{ClientKeyExchangeGate, LookupFuture};
use super::lookup::{Answer, CredentialLookup, MAX_IDENTITY, Query};
use crate::EngineError;
use crate::accepted::{Accepted, export, openssl_server};
use crate::client_hello::FirstFlight;
use crate::readiness::{ReadinessStream, Socket};
use crate::refusal::{NoCredential, Refusal};
use crate::suite::Suite;

/// The server side of handshakes with pre-shared keys.
#[derive(Clone)]
pub struct Server {
    context: SslContext,
    exports: bool,
}

/// The shared state of a handshake: the lookup stores its result for OpenSSL's callback. OpenSSL holds it
/// for as long as the association, so it is small when the result has been taken.
#[derive(Default)]
pub(crate) struct Slot(Mutex<State>);

#[derive(Default)]
pub(crate) enum State {
    /// No identity has arrived.
    #[default]
    Nothing,
    /// The identity is malformed.
    Malformed(&'static str),
    /// The identity has no credential.
    Refused(Box<(String, NoCredential)>),
    /// The identity has a credential.
    Found(Box<(String, Credential)>),
}

impl Slot {
    /// Attaches the slot to a handshake.
    pub(crate) fn attach(self: &Arc<Self>, ssl: &mut Ssl) -> Result<(), ErrorStack> {
        ssl.set_ex_data(slot_index()?, self.clone());
        Ok(())
    }

    fn set(&self, state: State) {
        if let Ok(mut current) = self.0.lock() {
            *current = state;
        }
    }

    /// Returns the key of the identity that was looked up, and a random key for any other identity.
    pub(crate) fn key_of(&self, identity: &[u8]) -> Zeroizing<Vec<u8>> {
        if let Ok(state) = self.0.lock()
            && let State::Found(found) = &*state
            && let (looked_up, credential) = &**found
            && identity == looked_up.as_bytes()
        {
            return Zeroizing::new(credential.key.expose().to_vec());
        }
        let decoy: [u8; PresharedKey::MAX_LEN / 2] = rand::rng().random();
        Zeroizing::new(decoy.to_vec())
    }

    pub(crate) fn take(&self) -> State {
        self.0.lock().map(|mut state| std::mem::take(&mut *state)).unwrap_or_default()
    }
}

impl Server {
    /// Creates a server with the suites in their order of preference.
    ///
    /// It uses TLS 1.2 without resumption, renegotiation and compression, and with extended master
    /// secret and encrypt-then-MAC if the client offers them.
    ///
    /// # Errors
    /// Returns an error if OpenSSL does not support the suites.
    pub fn new(suites: &[Suite]) -> Result<Self, EngineError> {
        let mut builder = openssl_server(&Suite::openssl_list(suites))?;
        builder.set_psk_server_callback(|ssl, identity, key_buffer| {
            Ok(provide_key(ssl, identity, key_buffer))
        });
        Ok(Self { context: builder.build(), exports: false })
    }

    /// Exports key material from each session.
    #[must_use]
    pub fn exporting(self) -> Self {
        Self { exports: true, ..self }
    }

    /// Performs the handshake of a connection whose first flight has been read, and establishes the
    /// association `id`. The caller bounds the time.
    ///
    /// An identity without a credential gets a random key, so that a client cannot distinguish it
    /// from a wrong key (RFC 4279 clause 5.4).
    ///
    /// # Errors
    /// Returns the reason why no association was established. OpenSSL has sent the alert.
    pub async fn accept<S>(
        &self,
        id: u64,
        peer: std::net::SocketAddr,
        socket: S,
        flight: FirstFlight,
        lookup: Arc<dyn CredentialLookup + Send + Sync>,
    ) -> Result<Accepted<S>, Refusal>
    where
        S: Socket,
    {
        let engine = |e: ErrorStack| Refusal::Protocol(e.to_string());
        let slot = Arc::new(Slot::default());
        let mut ssl = Ssl::new(&self.context).map_err(engine)?;
        slot.attach(&mut ssl).map_err(engine)?;
        let (bytes, server_name) = flight.into_parts();
        let answers = slot.clone();
        let ask = move |identity: &[u8]| start_lookup(identity, server_name, &lookup, answers);
        let gate = ClientKeyExchangeGate::new(socket, bytes, ask);
        let mut stream = Box::pin(ReadinessStream::new(ssl, gate).map_err(engine)?);
        let outcome = Pin::new(&mut stream.tls).accept().await;
        let gate = stream.layer();
        match &outcome {
            Ok(()) => gate.finished(),
            Err(_) => gate.send_alert().await,
        }
        match (outcome, slot.take()) {
            (Ok(()), State::Found(found)) => {
                let (_, credential) = *found;
                let ssl = stream.tls.ssl();
                let association = SecurityAssociation::new(
                    id,
                    Established {
                        saef: credential.saef,
                        credential_id: credential.id,
                        entity: credential.entity,
                        peer,
                        protocol: ssl.version_str(),
                        suite: super::lookup::suite_name(ssl),
                        resumed: false,
                        expires: credential.expires,
                    },
                );
                let exported = self.exports.then(|| export(stream.tls.ssl())).flatten();
                Ok(Accepted { association, stream, exported })
            }
            // Unreachable as long as keys come from credentials only. If reached, there is no
            // entity.
            (Ok(()), _) => Err(Refusal::Protocol("the handshake finished without a key".into())),
            (Err(_), State::Malformed(why)) => Err(Refusal::MalformedIdentity(why)),
            (Err(_), State::Refused(refused)) => {
                let (identity, why) = *refused;
                Err(Refusal::Identity { identity, why })
            }
            (Err(error), State::Found(found)) if is_bad_mac(&error) => {
                Err(Refusal::WrongKey { identity: found.0 })
            }
            (Err(error), State::Found(_) | State::Nothing) => Err(failed(error)),
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

/// The first record under a wrong key fails its MAC. For CBC suites OpenSSL reports either reason.
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

/// Starts the lookup of a well-formed identity.
pub(crate) fn start_lookup(
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
            Answer::Found(credential) => State::Found(Box::new((identity, credential))),
            Answer::Refused(why) => State::Refused(Box::new((identity, why))),
        });
    })
}

/// Checks an identity. OpenSSL passes identities as C strings, so a NUL would truncate one.
fn well_formed(identity: &[u8]) -> Result<&str, &'static str> {
    match std::str::from_utf8(identity) {
        _ if identity.is_empty() => Err("it is empty"),
        _ if identity.len() > MAX_IDENTITY => Err("it is longer than 256 bytes"),
        _ if identity.contains(&0) => Err("it has a NUL byte"),
        Err(_) => Err("it is not UTF-8"),
        Ok(text) => Ok(text),
    }
}

/// Provides the key of an identity to OpenSSL. The credential's key is provided only for the
/// identity that was looked up. Any other identity gets a random key.
pub(crate) fn provide_key(
    ssl: &mut SslRef,
    identity: Option<&[u8]>,
    key_buffer: &mut [u8],
) -> usize {
    let slot = slot_index().ok().and_then(|index| ssl.ex_data(index)).cloned();
    let key = slot.unwrap_or_default().key_of(identity.unwrap_or_default());
    match key_buffer.get_mut(..key.len()) {
        Some(buffer) => {
            buffer.copy_from_slice(&key);
            buffer.len()
        }
        None => 0,
    }
}
