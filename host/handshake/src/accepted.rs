//! The results of handshakes.

use std::pin::Pin;
use std::time::SystemTime;

use openssl::error::ErrorStack;
use openssl::ssl::{
    SslContext, SslContextBuilder, SslMethod, SslMode, SslOptions, SslRef, SslSessionCacheMode,
    SslVersion,
};
use saegis_onem2m::association::SecurityAssociation;
use saegis_onem2m::exported::{Exported, LABEL};
use tokio::io::{AsyncRead, AsyncWrite};

/// The error for a TLS engine that cannot be created.
#[derive(Debug, thiserror::Error)]
#[error("cannot create the TLS engine: {0}")]
pub struct EngineError(String);

impl From<ErrorStack> for EngineError {
    fn from(error: ErrorStack) -> Self {
        Self(error.to_string())
    }
}

impl From<rustls::Error> for EngineError {
    fn from(error: rustls::Error) -> Self {
        Self(error.to_string())
    }
}

/// An established association, on the server side.
pub struct Accepted<S> {
    /// Record of the association.
    pub association: SecurityAssociation,
    /// Decrypted stream.
    pub stream: Pin<Box<dyn TlsStream<S>>>,
    /// Exported key material, if exporting is enabled and the session has extended master secret
    /// (RFC 7627). Without it, the two ends could belong to different sessions.
    pub exported: Option<Exported>,
}

/// An established association, on the client side.
pub struct Connected<S> {
    /// Decrypted stream.
    pub stream: Pin<Box<dyn TlsStream<S>>>,
    /// Negotiated TLS protocol version.
    pub protocol: &'static str,
    /// Negotiated cipher suite, by its registered name.
    pub suite: String,
    /// Exported key material, if the session has extended master secret.
    pub exported: Option<Exported>,
    /// End of validity of the server's certificate; `None` for a pre-shared key.
    pub until: Option<SystemTime>,
}

/// Exports key material from a session of OpenSSL.
pub(crate) fn export(ssl: &SslRef) -> Option<Exported> {
    let exported = Exported::by(|buffer| ssl.export_keying_material(buffer, LABEL, None));
    exported.ok().filter(|_| ssl.extms_support() == Some(true))
}

/// The reason why a client could not establish an association.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The server refused the identity or the key. It does not disclose which of them.
    #[error(
        "the other end refused the handshake: it does not know the KpsaID, or has another Kpsa for it ({0})"
    )]
    Refused(String),
    /// The server refused the client's certificate.
    #[error("the other end refused the certificate ({0})")]
    CertificateRefused(String),
    /// The server's certificate does not prove the expected identity.
    #[error("the other end does not have the expected identity: {0}")]
    Server(#[source] saegis_certificate::Rejection),
    /// The server supports none of the offered suites.
    #[error("the other end supports none of the offered cipher suites ({0})")]
    NoCommonSuite(String),
    /// Any other failure.
    #[error("the handshake failed: {0}")]
    Failed(String),
}

/// An established stream, independent of the TLS engine.
pub trait TlsStream<S>: AsyncRead + AsyncWrite + Send {}
impl<S, T: AsyncRead + AsyncWrite + Send> TlsStream<S> for T {}

/// Creates the common configuration of the OpenSSL servers: TLS 1.2 with these suites, without
/// resumption, renegotiation and compression.
pub(crate) fn openssl_server(suites: &str) -> Result<SslContextBuilder, ErrorStack> {
    configure(SslContext::builder(SslMethod::tls_server())?, SslVersion::TLS1_2, suites)
}

/// SSL_OP_NO_ENCRYPT_THEN_MAC, which the crate `openssl` does not have.
const NO_ENCRYPT_THEN_MAC: u64 = 1 << 19;

/// Creates the same configuration for DTLS 1.2.
pub(crate) fn openssl_datagram_server(suites: &str) -> Result<SslContextBuilder, ErrorStack> {
    let builder = SslContext::builder(SslMethod::dtls_server())?;
    let mut builder = configure(builder, SslVersion::DTLS1_2, suites)?;
    builder.set_options(SslOptions::COOKIE_EXCHANGE | SslOptions::NO_QUERY_MTU);
    // With it, OpenSSL 3.6 ends an association if the MAC of one record is wrong, which anybody can
    // send. Without it, the record is dropped.
    builder.set_options(SslOptions::from_bits_retain(NO_ENCRYPT_THEN_MAC));
    Ok(builder)
}

/// Creates the common configuration of the OpenSSL clients with pre-shared keys: TLS 1.2 with these
/// suites, without resumption, renegotiation and compression.
pub(crate) fn openssl_client(suites: &str) -> Result<SslContextBuilder, ErrorStack> {
    configure_client(SslContext::builder(SslMethod::tls_client())?, SslVersion::TLS1_2, suites)
}

/// Creates the same configuration for DTLS 1.2.
pub(crate) fn openssl_datagram_client(suites: &str) -> Result<SslContextBuilder, ErrorStack> {
    let builder = SslContext::builder(SslMethod::dtls_client())?;
    let mut builder = configure_client(builder, SslVersion::DTLS1_2, suites)?;
    builder.set_options(SslOptions::NO_QUERY_MTU);
    // As on the server side.
    builder.set_options(SslOptions::from_bits_retain(NO_ENCRYPT_THEN_MAC));
    Ok(builder)
}

fn configure_client(
    builder: SslContextBuilder,
    version: SslVersion,
    suites: &str,
) -> Result<SslContextBuilder, ErrorStack> {
    let mut builder = restrict(builder, version, suites)?;
    builder.set_groups_list("X25519:P-256:P-384")?;
    Ok(builder)
}

fn configure(
    builder: SslContextBuilder,
    version: SslVersion,
    suites: &str,
) -> Result<SslContextBuilder, ErrorStack> {
    let mut builder = restrict(builder, version, suites)?;
    // P-256 is the curve of TS-0003's certificates, which every device supports. wolfSSL 5.5 fails
    // at X25519 with ECDHE-PSK.
    builder.set_groups_list("P-256:X25519:P-384")?;
    builder.set_options(SslOptions::CIPHER_SERVER_PREFERENCE);
    // Reads the header and the content of a record with one system call.
    builder.set_read_ahead(true);
    // Releases the record buffers of idle associations.
    builder.set_mode(SslMode::RELEASE_BUFFERS);
    Ok(builder)
}

/// Allows only this version and these suites, without resumption, renegotiation and compression.
fn restrict(
    mut builder: SslContextBuilder,
    version: SslVersion,
    suites: &str,
) -> Result<SslContextBuilder, ErrorStack> {
    builder.set_min_proto_version(Some(version))?;
    builder.set_max_proto_version(Some(version))?;
    builder.set_cipher_list(suites)?;
    builder.set_options(
        SslOptions::NO_TICKET | SslOptions::NO_RENEGOTIATION | SslOptions::NO_COMPRESSION,
    );
    builder.set_session_cache_mode(SslSessionCacheMode::OFF);
    Ok(builder)
}
