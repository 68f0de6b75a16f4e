//! The client's end: what an AE, or a CSE that registers, does.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

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

/// Whom a server's certificate must prove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// The server of the domain name, by a certificate of that flavour.
    Named(Flavour),
    /// Whom we know as a client.
    Known(Identity),
}

/// The engine of the client's end, for one certificate.
pub struct Client {
    trust: Arc<Trust>,
    own: Arc<CertifiedKey>,
    provider: Arc<CryptoProvider>,
}

impl Client {
    /// Sets the engine up for a certificate, and those whom it believes.
    #[must_use]
    pub fn new(trust: Arc<Trust>, own: &OwnCertificate) -> Self {
        let provider = Arc::new(aws_lc_rs::default_provider());
        Self { trust, own: own.certified().clone(), provider }
    }

    /// Does the handshake with the server of that domain name, or at that address, whose certificate must
    /// prove whom is expected; a domain name is indicated too. The caller bounds the time.
    ///
    /// # Errors
    /// Why there is no association.
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
            .map_err(|_| ConnectError::Failed(format!("{name:?} is no domain name")))?;
        let verdict = Arc::new(Mutex::new(None));
        let asker = Asker {
            trust: self.trust.clone(),
            provider: self.provider.clone(),
            name: name.into(),
            expected,
            verdict: verdict.clone(),
        };
        let config = self.config(asker).map_err(|e| ConnectError::Failed(e.to_string()))?;
        let connected = TlsConnector::from(Arc::new(config)).connect(server, socket).await;
        let stream = connected.map_err(|error| {
            match verdict.lock().ok().and_then(|mut place| place.take()) {
                Some(Err(rejection)) => ConnectError::Server(rejection),
                Some(Ok(_)) | None => refused(&error),
            }
        })?;
        let vouched = verdict.lock().ok().and_then(|mut place| place.take()?.ok());
        let until = vouched.and_then(|vouched| vouched.until);
        let (_, connection) = stream.get_ref();
        let (protocol, suite) = negotiated(connection);
        let exported = exported(connection);
        Ok(Connected { stream: Box::pin(stream), protocol, suite, exported, until })
    }

    fn config(&self, asker: Asker) -> Result<ClientConfig, EngineError> {
        let builder = ClientConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()?;
        let mut config = builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(asker))
            .with_client_cert_resolver(Arc::new(Shows(self.own.clone())));
        config.resumption = Resumption::disabled();
        config.require_ems = true;
        Ok(config)
    }
}

/// Why a handshake came to nothing, as far as the other end has told.
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
struct Shows(Arc<CertifiedKey>);

impl ResolvesClientCert for Shows {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Asks the one verification for the server's certificate.
struct Asker {
    trust: Arc<Trust>,
    provider: Arc<CryptoProvider>,
    name: String,
    expected: Expected,
    verdict: Arc<Mutex<Option<Result<VerifiedPeer, Rejection>>>>,
}

impl std::fmt::Debug for Asker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Asker({})", self.name)
    }
}

impl ServerCertVerifier for Asker {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let all: Vec<_> = std::iter::once(own).chain(chain).cloned().collect();
        let now = UNIX_EPOCH + Duration::from_secs(now.as_secs());
        let purpose = match &self.expected {
            Expected::Named(flavour) => Purpose::Server { name: &self.name, flavour: *flavour },
            Expected::Known(identity) => Purpose::Known(identity),
        };
        let verdict = self.trust.verify(&all, purpose, now);
        let answer = match &verdict {
            Ok(_) => Ok(ServerCertVerified::assertion()),
            Err(rejection) => Err(Error::InvalidCertificate(rejection.as_error())),
        };
        if let Ok(mut place) = self.verdict.lock() {
            *place = Some(verdict);
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
