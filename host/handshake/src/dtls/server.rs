//! Handshakes of DTLS 1.2.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use openssl::error::ErrorStack;
use openssl::ex_data::Index;
use openssl::ssl::{Ssl, SslContext, SslContextBuilder};
use saegis_certificate::{OwnCertificate, Trust};
use saegis_onem2m::association::{Established, SecurityAssociation};
use saegis_onem2m::credential::Credential;
use saegis_onem2m::exported::Exported;
use saegis_onem2m::saef::Saef;
use tokio::time::error::Elapsed;

use super::channel::Channel;
use super::cookie::{COOKIE, Cookies};
use super::engine::Engine;
use super::link::{Link, Transport};
use super::psk_flights::{self, Lookup};
use super::psk_handshake;
use super::record::{ALERT, ClientHello};
use crate::accepted::{EngineError, export, openssl_datagram_server};
use crate::certificate::mapping::{Outcome, Slot as CertificateSlot, rejected};
use crate::certificate::openssl_engine::{VerifiedCount, failed, verify_client, with_certificate};
use crate::certificate::{CertificateMapping, Mapped};
use crate::client_hello::{Hello as Offered, Offer};
use crate::psk::server::{Slot, State, provide_key};
use crate::psk::{CredentialLookup, suite_name};
use crate::refusal::{Alert, Refusal};
use crate::suite::{MANDATED_OF_DATAGRAMS_OPENSSL, Suite};

/// Default of the maximum size of a datagram of the handshake, in bytes.
pub const DEFAULT_MTU: u32 = 1200;
/// Maximum number of HelloVerifyRequests before a handshake. A second one is needed if the first
/// cookie has expired.
const MAX_VERIFY_REQUESTS: u16 = 3;

/// The code that performs handshakes with TLS_PSK_WITH_AES_128_CCM_8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PskEngine {
    /// OpenSSL, as all other handshakes.
    #[default]
    OpenSsl,
    /// The gateway itself.
    Native,
}

/// The server side of handshakes over datagrams.
pub struct Server {
    cookies: Cookies,
    /// Suites with pre-shared keys, in order of preference.
    suites: Vec<Suite>,
    psk_engine: PskEngine,
    psk: SslContext,
    certificates: Option<Certificates>,
    mtu: u32,
    exports: bool,
}

struct Certificates {
    trust: Arc<Trust>,
    own: Vec<(Arc<OwnCertificate>, SslContext)>,
}

impl Certificates {
    /// Returns the context of the certificate for a server name, or else of the first one.
    fn context(&self, name: Option<&str>) -> Option<&SslContext> {
        let has = |own: &OwnCertificate, name: &str| own.names().iter().any(|n| n == name);
        let named = self.own.iter().find(|(own, _)| name.is_some_and(|name| has(own, name)));
        named.or(self.own.first()).map(|(_, context)| context)
    }
}

/// The result of a datagram with a ClientHello.
#[derive(Debug, PartialEq, Eq)]
pub enum Hello {
    /// The answer that asks the client to prove its address. It is smaller than the datagram.
    Verify(Vec<u8>),
    /// The client has proved its address. The handshake may start.
    Verified(ClientHello),
    /// The datagram is dropped.
    Invalid,
}

/// The interfaces through which a server looks up credentials.
#[derive(Clone)]
pub struct Credentials {
    /// Lookup of pre-shared keys.
    pub lookup: Arc<dyn CredentialLookup + Send + Sync>,
    /// Mapping of certificates.
    pub mapping: Arc<dyn CertificateMapping + Send + Sync>,
}

/// An established association over datagrams.
pub struct Accepted {
    /// Record of the association.
    pub association: SecurityAssociation,
    /// Encryption of its messages.
    pub channel: Channel,
    /// Exported key material, if exporting is enabled and the session has extended master secret.
    pub exported: Option<Exported>,
}

impl Server {
    /// Creates a server for pre-shared keys, with the suites in their order of preference.
    ///
    /// # Errors
    /// Returns an error if OpenSSL does not support the suites.
    pub fn new(suites: &[Suite]) -> Result<Self, EngineError> {
        let mut builder = openssl_datagram_server(&Suite::openssl_list(suites))?;
        builder.set_psk_server_callback(|ssl, identity, key_buffer| {
            Ok(provide_key(ssl, identity, key_buffer))
        });
        expect_cookie(&mut builder)?;
        let psk = builder.build();
        Ok(Self {
            cookies: Cookies::new(),
            suites: suites.to_vec(),
            psk_engine: PskEngine::default(),
            psk,
            certificates: None,
            mtu: DEFAULT_MTU,
            exports: false,
        })
    }

    /// Accepts certificates too, with the suite that TS-0003 mandates. The server presents the first
    /// certificate to clients that indicate no server name or an unknown one.
    ///
    /// # Errors
    /// Returns an error if OpenSSL does not support a certificate.
    pub fn with_certificates(
        self,
        trust: Arc<Trust>,
        own: &[Arc<OwnCertificate>],
    ) -> Result<Self, EngineError> {
        let context = |certificate: &Arc<OwnCertificate>| {
            let builder = openssl_datagram_server(MANDATED_OF_DATAGRAMS_OPENSSL)?;
            let mut builder = with_certificate(builder, certificate, &trust)?;
            expect_cookie(&mut builder)?;
            Ok((certificate.clone(), builder.build()))
        };
        let own = own.iter().map(context).collect::<Result<Vec<_>, EngineError>>()?;
        Ok(Self { certificates: Some(Certificates { trust, own }), ..self })
    }

    /// Selects the code that performs handshakes with TLS_PSK_WITH_AES_128_CCM_8.
    #[must_use]
    pub fn with_psk_engine(self, psk_engine: PskEngine) -> Self {
        Self { psk_engine, ..self }
    }

    /// Sets the maximum size of a datagram of the handshake, in bytes.
    #[must_use]
    pub fn with_mtu(self, mtu: u32) -> Self {
        Self { mtu, ..self }
    }

    /// Exports key material from each session.
    #[must_use]
    pub fn exporting(self) -> Self {
        Self { exports: true, ..self }
    }

    /// Handles a datagram with a ClientHello, without storing anything. `now` is the present time.
    ///
    /// A ClientHello in fragments is dropped.
    #[must_use]
    pub fn receive(&self, peer: SocketAddr, datagram: &[u8], now: Instant) -> Hello {
        let Some(hello) = ClientHello::parse(datagram) else { return Hello::Invalid };
        match self.cookies.check(peer, &hello, now) {
            (_, true) => match hello.message_sequence() {
                1..=MAX_VERIFY_REQUESTS => Hello::Verified(hello),
                _ => Hello::Invalid,
            },
            (cookie, false) if hello.message_sequence() < MAX_VERIFY_REQUESTS => {
                let answer = hello.verify_request(&cookie);
                if answer.len() < datagram.len() { Hello::Verify(answer) } else { Hello::Invalid }
            }
            _ => Hello::Invalid,
        }
    }

    /// Returns whether the handshake of a client with a pre-shared key is performed without OpenSSL.
    fn is_native(&self, hello: &ClientHello) -> bool {
        self.psk_engine == PskEngine::Native && self.suite(hello) == Some(psk_handshake::SUITE)
    }

    /// Returns the suite with a pre-shared key that the server prefers of those of a client.
    fn suite(&self, hello: &ClientHello) -> Option<Suite> {
        let is_offered = |suite: &&Suite| hello.suites().any(|id| id == suite.id());
        self.suites.iter().find(is_offered).copied()
    }

    /// Performs the handshake of a client that has proved its address, and establishes the
    /// association `id`. The caller bounds the number of handshakes, in all and by address.
    ///
    /// # Errors
    /// Returns the reason why no association was established, at the latest after `timeout`. A
    /// failure after the lookup of a pre-shared key is not reported to the client, which cannot
    /// distinguish an unknown identity from a wrong key (RFC 4279 clause 5.4).
    pub async fn accept(
        &self,
        id: u64,
        peer: SocketAddr,
        hello: ClientHello,
        transport: Transport<'_>,
        credentials: Credentials,
        timeout: Duration,
    ) -> Result<Accepted, Refusal> {
        let mut link = Link::new(transport, hello.record_sequence());
        let offered = match hello.classify() {
            Ok(offered) => offered,
            Err(refusal) => {
                if let Some(alert) = refusal.alert() {
                    link.send_alert(alert);
                }
                return Err(refusal);
            }
        };
        let handshake = Handshake { server: self, id, peer, hello, timeout };
        match (offered.offer, &self.certificates) {
            (Offer::Psk, _) if self.is_native(&handshake.hello) => {
                handshake.psk_of_gateway(offered, link, &credentials.lookup).await
            }
            (Offer::Psk, _) => handshake.psk(offered, link, &credentials.lookup).await,
            (Offer::Certificates, Some(certificates)) => {
                handshake.certificate(offered, link, certificates, credentials.mapping).await
            }
            (Offer::Certificates, None) => {
                link.send_alert(Alert::HandshakeFailure);
                Err(Refusal::CertificatesOnly)
            }
        }
    }
}

fn cookie_index() -> Result<Index<Ssl, Vec<u8>>, ErrorStack> {
    static INDEX: OnceLock<Index<Ssl, Vec<u8>>> = OnceLock::new();
    match INDEX.get() {
        Some(index) => Ok(*index),
        None => {
            let index = Ssl::new_ex_index()?;
            Ok(*INDEX.get_or_init(|| index))
        }
    }
}

/// Makes OpenSSL expect the cookie that was checked before.
fn expect_cookie(builder: &mut SslContextBuilder) -> Result<(), ErrorStack> {
    let index = cookie_index()?;
    builder.set_cookie_generate_cb(move |ssl, buffer| {
        let cookie = ssl.ex_data(index).map(Vec::as_slice).unwrap_or_default();
        match buffer.get_mut(..cookie.len()) {
            Some(buffer) => {
                buffer.copy_from_slice(cookie);
                Ok(cookie.len())
            }
            None => Ok(0),
        }
    });
    builder.set_cookie_verify_cb(move |ssl, cookie| {
        cookie.len() == COOKIE && ssl.ex_data(index).is_some_and(|expected| expected == cookie)
    });
    Ok(())
}

fn failure(error: ErrorStack) -> Refusal {
    Refusal::Protocol(error.to_string())
}

struct Handshake<'a> {
    server: &'a Server,
    id: u64,
    peer: SocketAddr,
    hello: ClientHello,
    timeout: Duration,
}

impl Handshake<'_> {
    /// Starts OpenSSL at the point after the HelloVerifyRequest. It answers a ClientHello without
    /// cookie with its own HelloVerifyRequest, which is dropped, and then accepts the real one.
    fn start(&self, mut ssl: Ssl) -> Result<Engine, Refusal> {
        ssl.set_mtu(self.server.mtu).map_err(failure)?;
        let index = cookie_index().map_err(failure)?;
        ssl.set_ex_data(index, self.hello.cookie().to_vec());
        ssl.set_accept_state();
        let mut engine = Engine::new(ssl).map_err(failure)?;
        for number in 0..self.hello.message_sequence() {
            engine.push(self.hello.without_cookie(number));
            engine.handshake().map_err(failed)?;
            engine.outgoing();
        }
        engine.push(self.hello.datagram().to_vec());
        Ok(engine)
    }

    /// Returns the association of a finished handshake of OpenSSL, which sent `last_flight`.
    fn accepted(
        &self,
        (engine, last_flight): (Engine, Vec<Vec<u8>>),
        saef: Saef,
        mapped: Mapped,
    ) -> Accepted {
        let ssl = engine.ssl();
        let association = self.association(saef, mapped, (ssl.version_str(), suite_name(ssl)));
        let exported = self.server.exports.then(|| export(ssl)).flatten();
        let channel = Channel::after(engine, last_flight, self.hello.max_fragment_length());
        Accepted { association, channel, exported }
    }

    fn association(
        &self,
        saef: Saef,
        mapped: Mapped,
        (protocol, suite): (&'static str, String),
    ) -> SecurityAssociation {
        let established = Established {
            saef,
            credential_id: mapped.credential_id,
            entity: mapped.entity,
            peer: self.peer,
            protocol,
            suite,
            resumed: false,
            expires: mapped.expires,
        };
        SecurityAssociation::new(self.id, established)
    }

    async fn psk(
        &self,
        offered: Offered,
        mut link: Link<'_>,
        lookup: &Arc<dyn CredentialLookup + Send + Sync>,
    ) -> Result<Accepted, Refusal> {
        let slot = Arc::new(Slot::default());
        let mut ssl = Ssl::new(&self.server.psk).map_err(failure)?;
        slot.attach(&mut ssl).map_err(failure)?;
        let mut engine = self.start(ssl)?;
        let lookup = Lookup { lookup, server_name: offered.server_name, slot: slot.clone() };
        let run = psk_flights::of_openssl(&mut engine, &mut link, lookup);
        let outcome = tokio::time::timeout(self.timeout, run).await;
        let (last, credential) = with_credential(outcome, slot.take())?;
        let (saef, mapped) = mapped(credential);
        Ok(self.accepted((engine, last), saef, mapped))
    }

    /// Performs a handshake without OpenSSL.
    async fn psk_of_gateway(
        &self,
        offered: Offered,
        mut link: Link<'_>,
        lookup: &Arc<dyn CredentialLookup + Send + Sync>,
    ) -> Result<Accepted, Refusal> {
        let slot = Arc::new(Slot::default());
        let lookup = Lookup { lookup, server_name: offered.server_name, slot: slot.clone() };
        let run = psk_flights::of_gateway(&self.hello, &mut link, lookup);
        let outcome = tokio::time::timeout(self.timeout, run).await;
        let (keyed, credential) = with_credential(outcome, slot.take())?;
        let (saef, mapped) = mapped(credential);
        let suite = psk_handshake::SUITE.name().into();
        let association = self.association(saef, mapped, ("DTLSv1.2", suite));
        let exported = self.server.exports.then(|| keyed.export()).flatten();
        let channel = Channel::of(keyed.into_records(), self.hello.max_fragment_length());
        Ok(Accepted { association, channel, exported })
    }
}

/// Returns the outcome of the flights with the credential, or the reason why there is no association.
fn with_credential<T>(
    outcome: Result<Result<T, Refusal>, Elapsed>,
    state: State,
) -> Result<(T, Credential), Refusal> {
    match (outcome, state) {
        (Ok(Ok(finished)), State::Found(found)) => Ok((finished, found.1)),
        // Unreachable as long as keys come from credentials only.
        (Ok(Ok(_)), _) => Err(Refusal::Protocol("the handshake finished without a key".into())),
        (_, State::Malformed(why)) => Err(Refusal::MalformedIdentity(why)),
        (_, State::Refused(refused)) => {
            let (identity, why) = *refused;
            Err(Refusal::Identity { identity, why })
        }
        // A record under a wrong key is dropped, so that the client finds out by the time.
        (Err(_), State::Found(found)) => Err(Refusal::WrongKey { identity: found.0 }),
        (Err(_), State::Nothing) => Err(Refusal::Connection(std::io::ErrorKind::TimedOut.into())),
        (Ok(Err(refusal)), State::Found(_) | State::Nothing) => Err(refusal),
    }
}

/// Returns the framework of a credential, and the entity that it stands for.
fn mapped(credential: Credential) -> (Saef, Mapped) {
    let Credential { saef, id: credential_id, entity, expires, .. } = credential;
    (saef, Mapped { credential_id, entity, expires })
}

#[expect(clippy::ptr_arg, reason = "a filter of datagrams")]
fn is_alert(datagram: &Vec<u8>) -> bool {
    datagram.first() == Some(&ALERT)
}

impl Handshake<'_> {
    async fn certificate(
        &self,
        offered: Offered,
        mut link: Link<'_>,
        certificates: &Certificates,
        mapping: Arc<dyn CertificateMapping + Send + Sync>,
    ) -> Result<Accepted, Refusal> {
        let context = certificates.context(offered.server_name.as_deref());
        let mut ssl = Ssl::new(context.ok_or(Refusal::CertificatesOnly)?).map_err(failure)?;
        let trust = certificates.trust.clone();
        let slot = CertificateSlot::new(trust, offered.server_name, mapping, false);
        let verified = verify_client(&mut ssl, &slot);
        let mut engine = self.start(ssl)?;
        let run = certificate_flights(&mut engine, &mut link, &slot, &verified);
        let run = async {
            run.await?;
            Ok::<_, Refusal>(slot.outcome().await)
        };
        let done = match tokio::time::timeout(self.timeout, run).await {
            Ok(done) => done,
            Err(_) => Err(Refusal::Connection(std::io::ErrorKind::TimedOut.into())),
        };
        let (refusal, outcome) = match done {
            Ok(outcome) => (None, outcome),
            Err(refusal) => (Some(refusal), slot.outcome_so_far()),
        };
        // The last flight of the server, or OpenSSL's alert.
        let mut last = engine.outgoing();
        if refusal.is_some() {
            last.retain(is_alert);
        }
        match (refusal, outcome) {
            (_, Outcome::Rejected(rejection, named)) => {
                link.send_alert(Alert::of(&rejection));
                Err(rejected(rejection, named))
            }
            (Some(Refusal::Certificate(rejection)), Outcome::Nothing | Outcome::Mapped(_)) => {
                link.send_alert(Alert::of(&rejection));
                Err(Refusal::Certificate(rejection))
            }
            (_, Outcome::Unmapped { identity, why }) => {
                link.send_alert(Alert::AccessDenied);
                Err(Refusal::Unmapped { identity, why })
            }
            (Some(refusal), Outcome::Nothing | Outcome::Mapped(_)) => {
                link.send(&last);
                Err(refusal)
            }
            // Unreachable as long as clients must present a certificate.
            (None, Outcome::Nothing) => {
                Err(Refusal::Protocol("the handshake finished without a certificate".into()))
            }
            (None, Outcome::Mapped(mapped)) => {
                link.send(&last);
                Ok(self.accepted((engine, last), Saef::Certificate, mapped))
            }
        }
    }
}

/// Exchanges the flights of a handshake with certificates. The last flight of the server remains in
/// the engine.
async fn certificate_flights(
    engine: &mut Engine,
    link: &mut Link<'_>,
    slot: &CertificateSlot,
    verified: &VerifiedCount,
) -> Result<(), Refusal> {
    while !engine.handshake().map_err(failed)? {
        link.send(&engine.outgoing());
        if let Some(datagram) = link.receive_or_tick().await? {
            engine.push(datagram);
        }
    }
    verified.check_rest(engine.ssl(), slot.trust()).map_err(Refusal::Certificate)
}
