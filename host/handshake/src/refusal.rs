//! Why there is no association: precise for the log, alike from outside.

use std::io;

use rustls::CertificateError;
use saegis_certificate::Rejection;
use tokio::io::{AsyncWrite, AsyncWriteExt};

/// Why a handshake came to nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The peer closed the connection, or it broke.
    #[error("the connection ended: {0}")]
    Connection(#[source] io::Error),
    /// The first bytes are a request in plain HTTP.
    #[error("the peer speaks HTTP without TLS")]
    PlainHttp,
    /// The first bytes are not those of TLS.
    #[error("the peer does not speak TLS")]
    NotTls,
    /// The first flight is larger than one may be.
    #[error("the ClientHello is too large")]
    TooLarge,
    /// The first flight is no ClientHello.
    #[error("the ClientHello is malformed: {0}")]
    Malformed(&'static str),
    /// The first flight has a record or a message that does not belong there.
    #[error("the ClientHello is malformed: {0}")]
    Unexpected(&'static str),
    /// A record of the first flight is longer than records may be.
    #[error("the ClientHello is malformed: a record is longer than records may be")]
    LongRecord,
    /// The client speaks no version that may be used.
    #[error("the client offers no TLS version from 1.2 on")]
    OldVersion,
    /// The client offers certificates only, and there is nothing to show it.
    #[error(
        "the client offers no suite with a pre-shared key, and for certificates nothing is set up \
         (policies/certificates.toml)"
    )]
    CertificatesOnly,
    /// The client offers a pre-shared key in TLS 1.3, and shows no certificate.
    #[error(
        "the client offers a pre-shared key in TLS 1.3, which is not supported: pre-shared keys are \
         taken in TLS 1.2; set its highest version to 1.2"
    )]
    PskOfTls13,
    /// The client offers no suite that either engine for certificates has.
    #[error("the client offers no cipher suite that can be used")]
    NoCommonSuite,
    /// The peer's certificate, or its raw public key, is not accepted.
    #[error("{0}")]
    Certificate(#[source] Rejection),
    /// The peer's certificate is good, and policy says of nobody that it stands for.
    #[error("{identity} was refused: {why}")]
    Unmapped {
        /// Whom the certificate names.
        identity: String,
        /// Why it stands for nobody.
        why: String,
    },
    /// The identity can't be one: empty, too long, not UTF-8, or with a NUL in it.
    #[error("the psk_identity is malformed: {0}")]
    MalformedIdentity(&'static str),
    /// No credential for the identity. The peer sees the same as with a wrong key.
    #[error("the psk_identity {identity:?} was refused: {why}")]
    Identity {
        /// The identity, as claimed.
        identity: String,
        /// Why the look-up gave no credential.
        why: String,
    },
    /// The peer's key is not the credential's.
    #[error("the peer of the psk_identity {identity:?} has another key")]
    WrongKey {
        /// The identity, as claimed.
        identity: String,
    },
    /// Anything else that the protocol does not allow.
    #[error("the handshake failed: {0}")]
    Protocol(String),
}

impl Refusal {
    /// A short name, for logs and counters.
    #[must_use]
    pub fn cause(&self) -> &'static str {
        match self {
            Self::Connection(_) => "connection",
            Self::PlainHttp => "plain-http",
            Self::NotTls => "not-tls",
            Self::TooLarge => "too-large",
            Self::Malformed(_) | Self::Unexpected(_) | Self::LongRecord => "malformed",
            Self::PskOfTls13 => "tls13-psk",
            Self::OldVersion => "old-version",
            Self::CertificatesOnly => "certificates-only",
            Self::NoCommonSuite => "no-common-suite",
            Self::Certificate(_) => "certificate",
            Self::Unmapped { .. } => "certificate-unmapped",
            Self::MalformedIdentity(_) => "malformed-identity",
            Self::Identity { .. } => "identity",
            Self::WrongKey { .. } => "wrong-key",
            Self::Protocol(_) => "protocol",
        }
    }

    /// The alert to send for a refusal made before an engine had the connection.
    #[must_use]
    pub fn alert(&self) -> Option<Alert> {
        match self {
            Self::Malformed(_) | Self::TooLarge => Some(Alert::DecodeError),
            Self::Unexpected(_) => Some(Alert::UnexpectedMessage),
            Self::LongRecord => Some(Alert::RecordOverflow),
            Self::OldVersion => Some(Alert::ProtocolVersion),
            Self::CertificatesOnly | Self::PskOfTls13 | Self::NoCommonSuite => {
                Some(Alert::HandshakeFailure)
            }
            Self::Connection(_)
            | Self::PlainHttp
            | Self::NotTls
            | Self::MalformedIdentity(_)
            | Self::Identity { .. }
            | Self::WrongKey { .. }
            | Self::Certificate(_)
            | Self::Unmapped { .. }
            | Self::Protocol(_) => None,
        }
    }
}

/// A fatal alert (RFC 5246 clause 7.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Alert {
    /// A message that does not belong there.
    UnexpectedMessage = 10,
    /// A record that is too long.
    RecordOverflow = 22,
    /// No common suite.
    HandshakeFailure = 40,
    /// A certificate that can't be read, or that names nobody who may come.
    BadCertificate = 42,
    /// A certificate for something else, or with a key of another kind.
    UnsupportedCertificate = 43,
    /// A certificate that was revoked.
    CertificateRevoked = 44,
    /// A certificate that is valid no more, or not yet.
    CertificateExpired = 45,
    /// A certificate of an authority that is not believed.
    UnknownCa = 48,
    /// The certificate is good, and stands for nobody here.
    AccessDenied = 49,
    /// A message that can't be read.
    DecodeError = 50,
    /// A signature that is wrong.
    DecryptError = 51,
    /// No common version.
    ProtocolVersion = 70,
}

impl Alert {
    /// The alert for a certificate: that which rustls sends by itself.
    #[must_use]
    pub fn of(rejection: &Rejection) -> Self {
        match rejection.as_error() {
            CertificateError::UnknownIssuer => Self::UnknownCa,
            CertificateError::Expired => Self::CertificateExpired,
            CertificateError::Revoked => Self::CertificateRevoked,
            CertificateError::BadSignature => Self::DecryptError,
            CertificateError::InvalidPurpose => Self::UnsupportedCertificate,
            _ => Self::BadCertificate,
        }
    }

    /// Its registered name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::UnexpectedMessage => "unexpected_message",
            Self::RecordOverflow => "record_overflow",
            Self::HandshakeFailure => "handshake_failure",
            Self::BadCertificate => "bad_certificate",
            Self::UnsupportedCertificate => "unsupported_certificate",
            Self::CertificateRevoked => "certificate_revoked",
            Self::CertificateExpired => "certificate_expired",
            Self::UnknownCa => "unknown_ca",
            Self::AccessDenied => "access_denied",
            Self::DecodeError => "decode_error",
            Self::DecryptError => "decrypt_error",
            Self::ProtocolVersion => "protocol_version",
        }
    }

    /// Sends the alert in a record of its own.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn send(self, socket: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        socket.write_all(&self.record()).await?;
        socket.flush().await
    }

    /// The record.
    pub(crate) fn record(self) -> [u8; 7] {
        const ALERT: u8 = 21;
        const FATAL: u8 = 2;
        [ALERT, 3, 3, 0, 2, FATAL, self as u8]
    }
}
