//! Client side with certificates, for an AE or a registering CSE.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConfig, ResolvesClientCert, Resumption};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{AlertDescription, DigitallySignedStruct, Error, SignatureScheme};
use saegis_certificate::{
    Flavour, Identity, OwnCertificate, Purpose, Rejection, Trust, VerifiedPeer,
};
use std::sync::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use super::rustls_engine::{exported, negotiated, schemes};
use crate::accepted::{ConnectError, Connected, EngineError};

/// The identity that a server's certificate must prove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// The server of the domain name, with a certificate of this flavor.
    Named(Flavour),
    /// An entity that is known as a client.
    Known(Identity),
}

/// The client side of handshakes with one certificate.
pub struct Client {
    trust: Arc<Trust>,
    own: Arc<CertifiedKey>,
    provider: Arc<CryptoProvider>,
}

impl Client {
    /// Creates a client with its own certificate and its trust anchors.
    #[must_use]
    pub fn new(trust: Arc<Trust>, own: &OwnCertificate) -> Self {
        let provider = Arc::new(aws_lc_rs::default_provider());
        Self { trust, own: own.certified().clone(), provider }
    }

    /// Performs the handshake with a server, whose certificate must prove the `expected` identity.
    /// `name` is the server's domain name or address; a domain name is also sent as server name
    /// indication. The caller bounds the time.
    ///
    /// # Errors
    /// Returns the reason why no association was established.
    pub async fn connect<S>(
        &self,
        socket: S,
        name: &str,
        expected: Expected,
    ) -> Result<Connected<S>, ConnectError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let server = ServerName::try_from(name.to_string())
            .map_err(|_| ConnectError::Failed(format!("{name:?} is not a domain name")))?;
        let verdict = Arc::new(Mutex::new(None));
        let verifier = ServerVerifier {
            trust: self.trust.clone(),
            provider: self.provider.clone(),
            name: name.into(),
            expected,
            verdict: verdict.clone(),
        };
        let config = self.config(verifier).map_err(|e| ConnectError::Failed(e.to_string()))?;
        let connected = TlsConnector::from(Arc::new(config)).connect(server, socket).await;
        let stream = connected.map_err(|error| {
            match verdict.lock().ok().and_then(|mut verdict| verdict.take()) {
                Some(Err(rejection)) => ConnectError::Server(rejection),
                Some(Ok(_)) | None => refused(&error),
            }
        })?;
        let verified = verdict.lock().ok().and_then(|mut verdict| verdict.take()?.ok());
        let until = verified.and_then(|verified| verified.until);
        let (_, connection) = stream.get_ref();
        let (protocol, suite) = negotiated(connection);
        let exported = exported(connection);
        Ok(Connected { stream: Box::pin(stream), protocol, suite, exported, until })
    }

    fn config(&self, verifier: ServerVerifier) -> Result<ClientConfig, EngineError> {
        let builder = ClientConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()?;
        let mut config = builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::new(FixedCertificate(self.own.clone())));
        config.resumption = Resumption::disabled();
        config.require_ems = true;
        Ok(config)
    }
}

/// Classifies a failed handshake by the alert of the server.
fn refused(error: &std::io::Error) -> ConnectError {
    let text = error.to_string();
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::AlertReceived(alert)) => match alert {
            AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity => {
                ConnectError::NoCommonSuite(text)
            }
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError => ConnectError::CertificateRefused(text),
            _ => ConnectError::Failed(text),
        },
        _ => ConnectError::Failed(text),
    }
}

#[derive(Debug)]
struct FixedCertificate(Arc<CertifiedKey>);

impl ResolvesClientCert for FixedCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Verifies the certificate of a server, its own first.
pub(crate) fn verify_server(
    trust: &Trust,
    name: &str,
    expected: &Expected,
    chain: &[CertificateDer<'static>],
    now: SystemTime,
) -> Result<VerifiedPeer, Rejection> {
    let purpose = match expected {
        Expected::Named(flavour) => Purpose::Server { name, flavour: *flavour },
        Expected::Known(identity) => Purpose::Known(identity),
    };
    trust.verify(chain, purpose, now)
}

/// The rustls verifier that delegates to [`Trust::verify`].
struct ServerVerifier {
    trust: Arc<Trust>,
    provider: Arc<CryptoProvider>,
    name: String,
    expected: Expected,
    verdict: Arc<Mutex<Option<Result<VerifiedPeer, Rejection>>>>,
}

impl std::fmt::Debug for ServerVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ServerVerifier({})", self.name)
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let all = std::iter::once(own).chain(chain).map(|der| der.clone().into_owned());
        let all: Vec<_> = all.collect();
        let now = UNIX_EPOCH + Duration::from_secs(now.as_secs());
        let verdict = verify_server(&self.trust, &self.name, &self.expected, &all, now);
        let answer = match &verdict {
            Ok(_) => Ok(ServerCertVerified::assertion()),
            Err(rejection) => Err(Error::InvalidCertificate(rejection.as_error())),
        };
        if let Ok(mut slot) = self.verdict.lock() {
            *slot = Some(verdict);
        }
        answer
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        schemes(|kind| self.trust.allows(kind))
    }
}
