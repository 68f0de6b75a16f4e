//! TLS for operators on other machines, who open the web page. It is not a security association of
//! oneM2M: TLS 1.3 only, and a client without a listed certificate does not complete the handshake.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::client::verify_server_name;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig,
    SignatureScheme,
};
use saegis_certificate::{OperatorName, OwnCertificate, check_operator_anchor};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// The error for certificates that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct OperatorTlsError(String);

/// The server side of handshakes with operators.
pub struct OperatorServer {
    acceptor: TlsAcceptor,
    listed: Arc<HashSet<OperatorName>>,
}

/// A client whose certificate is valid and has a listed name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// The listed names in its certificate, at least one.
    pub names: Vec<OperatorName>,
    /// SHA-256 of its certificate.
    pub digest: [u8; 32],
}

impl OperatorServer {
    /// Creates a server. Clients need a certificate of one of the anchors with a listed name.
    ///
    /// # Errors
    /// Returns the reason why a certificate cannot be used.
    pub fn new(
        own: &OwnCertificate,
        anchors: &[CertificateDer<'static>],
        listed: HashSet<OperatorName>,
    ) -> Result<Self, OperatorTlsError> {
        let failed = |e: &dyn std::fmt::Display| OperatorTlsError(e.to_string());
        let mut roots = RootCertStore::empty();
        for anchor in anchors {
            check_operator_anchor(anchor).map_err(|e| failed(&e))?;
            roots.add(anchor.clone()).map_err(|e| failed(&e))?;
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let of_path =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                .clear_root_hint_subjects()
                .build()
                .map_err(|e| failed(&e))?;
        let listed = Arc::new(listed);
        let verifier = Verifier { of_path, listed: listed.clone() };
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|e| failed(&e))?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(own.certified().clone())));
        // Each connection verifies the certificate.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), listed })
    }

    /// Performs a handshake. The caller bounds the time.
    ///
    /// # Errors
    /// Fails if the handshake fails, or the client presents no listed certificate.
    pub async fn accept<S>(&self, socket: S) -> io::Result<(TlsStream<S>, Operator)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let stream = self.acceptor.accept(socket).await?;
        let own = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let operator = own.and_then(|der| operator(der, &self.listed));
        // The verifier has found it already.
        let operator = operator.ok_or_else(|| io::Error::other("the client has no certificate"))?;
        Ok((stream, operator))
    }
}

/// Checks that browsers accept a certificate for a domain name or an IP address.
///
/// # Errors
/// Returns an error if the certificate is for other names.
pub fn check_server_name(own: &OwnCertificate, name: &str) -> Result<(), OperatorTlsError> {
    let failed = || OperatorTlsError(format!("is not valid for the host name {name}"));
    let server = ServerName::try_from(name).map_err(|_| failed())?;
    let own = own.chain().first().ok_or_else(failed)?;
    let parsed = ParsedCertificate::try_from(own).map_err(|_| failed())?;
    verify_server_name(&parsed, &server).map_err(|_| failed())
}

fn operator(der: &CertificateDer<'_>, listed: &HashSet<OperatorName>) -> Option<Operator> {
    let mut names = OperatorName::all_of(der).ok()?;
    names.retain(|name| listed.contains(name));
    (!names.is_empty()).then(|| Operator { names, digest: Sha256::digest(der).into() })
}

/// Verifies the path with webpki, and then looks for a listed name.
#[derive(Debug)]
struct Verifier {
    of_path: Arc<dyn ClientCertVerifier>,
    listed: Arc<HashSet<OperatorName>>,
}

impl ClientCertVerifier for Verifier {
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
        let verified = self.of_path.verify_client_cert(own, chain, now)?;
        if operator(own, &self.listed).is_none() {
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.of_path.verify_tls12_signature(message, cert, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.of_path.verify_tls13_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.of_path.supported_verify_schemes()
    }
}
