//! Server side on rustls: TLS 1.3, and TLS 1.2 with authenticated encryption.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{
    CryptoProvider, verify_tls12_signature, verify_tls13_signature,
    verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{
    ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert, ServerConfig,
};
use rustls::sign::CertifiedKey;
use rustls::{
    ConnectionCommon, DigitallySignedStruct, DistinguishedName, Error, HandshakeKind,
    SignatureScheme,
};
use saegis_certificate::{KeyKind, OwnCertificate, Rejection};
use saegis_onem2m::exported::{Exported, LABEL};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;

use super::agreed::Agreed;
use super::mapping::{Evidence, Gate, Slot};
use super::tickets::Tickets;
use crate::client_hello::Certificates;
use crate::refusal::Refusal;

/// The server's credentials: its certificate, and its public key for RFC 7250.
#[derive(Debug, Clone)]
pub(super) struct ServerCredentials {
    certificate: Arc<CertifiedKey>,
    key: Option<Arc<CertifiedKey>>,
}

impl ServerCredentials {
    pub fn new(own: &OwnCertificate) -> Self {
        let certificate = own.certified().clone();
        let key = certificate.key.public_key().map(|spki| {
            let raw = CertificateDer::from(spki.to_vec());
            Arc::new(CertifiedKey::new(vec![raw], certificate.key.clone()))
        });
        Self { certificate, key }
    }

    fn resolver(&self, as_key: bool) -> Resolver {
        match &self.key {
            Some(key) if as_key => Resolver { credential: key.clone(), is_key: true },
            _ => Resolver { credential: self.certificate.clone(), is_key: false },
        }
    }
}

#[derive(Debug)]
struct Resolver {
    credential: Arc<CertifiedKey>,
    is_key: bool,
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.credential.clone())
    }

    fn only_raw_public_keys(&self) -> bool {
        self.is_key
    }
}

/// The settings of a handshake.
pub(super) struct Setup<'a> {
    pub provider: &'a Arc<CryptoProvider>,
    pub ticketer: Option<&'a Arc<dyn ProducesTickets>>,
    pub exports: bool,
}

/// Performs a handshake. The slot receives the client's certificate or raw public key.
pub(super) async fn accept<S>(
    setup: &Setup<'_>,
    own: &ServerCredentials,
    offered: Certificates,
    gate: Gate<S>,
    slot: &Arc<Slot>,
) -> Result<Agreed<S>, Refusal>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Setup { provider, ticketer, exports } = *setup;
    let verifier = ClientVerifier {
        provider: provider.clone(),
        slot: slot.clone(),
        takes_keys: offered.shows_key,
    };
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(protocol)?;
    let mut config = builder
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::new(own.resolver(offered.wants_key)));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    // With resumption in TLS 1.2, the server would send the last message before policy has decided.
    if let Some(ticketer) = ticketer.filter(|_| offered.tls13 && !offered.shows_key) {
        config.ticketer = Arc::new(Tickets::new(ticketer.clone()));
        config.send_tls13_tickets = 1;
    }
    config.require_ems = exports;
    let accepting = TlsAcceptor::from(Arc::new(config)).accept(gate);
    let mut stream = accepting.await.map_err(|e| failed(e, offered.psk_of_tls13))?;
    let (gate, connection) = stream.get_mut();
    gate.open();
    let (protocol, suite) = negotiated(connection);
    let resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
    if resumed && let Some(chain) = connection.peer_certificates() {
        // rustls does not verify the chain of a resumed session. The slot stores a rejection.
        let _ = slot.present(Evidence::Chain(chain.to_vec()), SystemTime::now());
    }
    let exported = exports.then(|| exported(connection)).flatten();
    Ok(Agreed { stream: Box::pin(stream), protocol, suite, resumed, exported })
}

/// Returns the version and the suite of a finished handshake, on either side.
pub(super) fn negotiated<D>(connection: &ConnectionCommon<D>) -> (&'static str, String) {
    let protocol = match connection.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
        _ => "TLSv1.2",
    };
    let suite = connection.negotiated_cipher_suite();
    let suite = suite.and_then(|s| s.suite().as_str().map(registered)).unwrap_or_default();
    (protocol, suite)
}

/// Returns the exported key material of a session, on either side.
pub(super) fn exported<D>(connection: &ConnectionCommon<D>) -> Option<Exported> {
    let export = |buffer: &mut [u8]| {
        connection.export_keying_material(buffer, LABEL.as_bytes(), None).map(drop)
    };
    Exported::by(export).ok()
}

/// Returns the registered name of a suite: rustls writes `TLS13_`, the registry `TLS_`.
fn registered(name: &str) -> String {
    match name.strip_prefix("TLS13_") {
        Some(rest) => format!("TLS_{rest}"),
        None => name.into(),
    }
}

fn protocol(error: Error) -> Refusal {
    Refusal::Protocol(error.to_string())
}

/// Classifies a failed handshake. A client that offers an external key of TLS 1.3 may omit what
/// certificates need.
fn failed(error: std::io::Error, offers_psk: bool) -> Refusal {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::NoCertificatesPresented | Error::PeerIncompatible(_)) if offers_psk => {
            Refusal::PskOfTls13
        }
        Some(Error::NoCertificatesPresented) => Refusal::Certificate(Rejection::Missing),
        Some(error) => Refusal::Protocol(error.to_string()),
        None => Refusal::Connection(error),
    }
}

/// The rustls verifier that delegates to the verification of [`Slot`].
#[derive(Debug)]
struct ClientVerifier {
    provider: Arc<CryptoProvider>,
    slot: Arc<Slot>,
    takes_keys: bool,
}

impl ClientCertVerifier for ClientVerifier {
    /// The trust anchors are not disclosed to unauthenticated clients.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        own: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let evidence = if self.takes_keys {
            Evidence::Key(own.to_vec())
        } else {
            let all = std::iter::once(own).chain(chain);
            Evidence::Chain(all.map(|der| der.clone().into_owned()).collect())
        };
        let now = UNIX_EPOCH + Duration::from_secs(now.as_secs());
        match self.slot.present(evidence, now) {
            Ok(()) => Ok(ClientCertVerified::assertion()),
            Err(rejection) => Err(Error::InvalidCertificate(rejection.as_error())),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            cert,
            signed,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        if self.takes_keys {
            let key = SubjectPublicKeyInfoDer::from(cert.as_ref());
            verify_tls13_signature_with_raw_key(message, &key, signed, algorithms)
        } else {
            verify_tls13_signature(message, cert, signed, algorithms)
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        schemes(|kind| self.slot.trust().allows(kind))
    }

    fn requires_raw_public_keys(&self) -> bool {
        self.takes_keys
    }
}

/// Returns the signature schemes of the allowed kinds of keys.
pub(super) fn schemes(allowed: impl Fn(KeyKind) -> bool) -> Vec<SignatureScheme> {
    use SignatureScheme as S;
    let mut schemes = vec![S::ECDSA_NISTP256_SHA256];
    if allowed(KeyKind::P384) {
        schemes.push(S::ECDSA_NISTP384_SHA384);
    }
    if allowed(KeyKind::Rsa) {
        schemes.extend([
            S::RSA_PSS_SHA256,
            S::RSA_PSS_SHA384,
            S::RSA_PSS_SHA512,
            S::RSA_PKCS1_SHA256,
            S::RSA_PKCS1_SHA384,
            S::RSA_PKCS1_SHA512,
        ]);
    }
    schemes
}
