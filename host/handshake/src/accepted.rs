//! What an engine makes of a connection.

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

/// An engine that can't be set up.
#[derive(Debug, thiserror::Error)]
#[error("the TLS engine can't be set up: {0}")]
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

/// A stream over an established association.
pub struct Accepted<S> {
    /// The record of the association.
    pub association: SecurityAssociation,
    /// The stream.
    pub stream: Pin<Box<dyn TlsStream<S>>>,
    /// What was exported from the session, where the engine was told to and the session has extended
    /// master secret (RFC 7627), without which both ends of it could be two sessions.
    pub exported: Option<Exported>,
}

/// An established association, seen from the client's end.
pub struct Connected<S> {
    /// The stream.
    pub stream: Pin<Box<dyn TlsStream<S>>>,
    /// The TLS protocol version agreed on.
    pub protocol: &'static str,
    /// The cipher suite agreed on, by its registered name.
    pub suite: String,
    /// What was exported from the session, where it has extended master secret.
    pub exported: Option<Exported>,
    /// From when on the other end's certificate is valid no more; a key has no such end here.
    pub until: Option<SystemTime>,
}

/// Exports from a session of OpenSSL's.
pub(crate) fn export(ssl: &SslRef) -> Option<Exported> {
    let exported = Exported::by(|place| ssl.export_keying_material(place, LABEL, None));
    exported.ok().filter(|_| ssl.extms_support() == Some(true))
}

/// Why there is no association, seen from the client's end.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The other end refused. It does not say whether the identity is unknown or the key wrong.
    #[error(
        "the other end refused the handshake: it does not know the KpsaID, or has another Kpsa for it ({0})"
    )]
    Refused(String),
    /// The other end does not take our certificate.
    #[error("the other end refused our certificate ({0})")]
    CertificateRefused(String),
    /// The other end's certificate does not prove who it should be.
    #[error("the other end is not who it should be: {0}")]
    Server(#[source] saegis_certificate::Rejection),
    /// No suite in common.
    #[error("the other end takes none of the cipher suites offered ({0})")]
    NoCommonSuite(String),
    /// Anything else.
    #[error("the handshake failed: {0}")]
    Failed(String),
}

/// An established stream. What is between it and the socket is the engine's affair.
pub trait TlsStream<S>: AsyncRead + AsyncWrite + Send {}
impl<S, T: AsyncRead + AsyncWrite + Send> TlsStream<S> for T {}

/// What every server of OpenSSL's has in common here: TLS 1.2 with these suites, nothing resumed,
/// renegotiated or compressed.
pub(crate) fn openssl_server(suites: &str) -> Result<SslContextBuilder, ErrorStack> {
    let mut builder = SslContext::builder(SslMethod::tls_server())?;
    builder.set_min_proto_version(Some(SslVersion::TLS1_2))?;
    builder.set_max_proto_version(Some(SslVersion::TLS1_2))?;
    builder.set_cipher_list(suites)?;
    // P-256 is the curve of TS-0003's certificates, which every device has. wolfSSL 5.5 fails at X25519
    // with ECDHE-PSK.
    builder.set_groups_list("P-256:X25519:P-384")?;
    builder.set_options(
        SslOptions::NO_TICKET
            | SslOptions::NO_RENEGOTIATION
            | SslOptions::NO_COMPRESSION
            | SslOptions::CIPHER_SERVER_PREFERENCE,
    );
    builder.set_session_cache_mode(SslSessionCacheMode::OFF);
    // A record's header and content with one system call.
    builder.set_read_ahead(true);
    // An idle association keeps no record buffers.
    builder.set_mode(SslMode::RELEASE_BUFFERS);
    Ok(builder)
}
