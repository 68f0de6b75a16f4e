//! The reasons why a server refuses a handshake: precise in the log, indistinguishable for the
//! client.

use std::{fmt, io};

use rustls::CertificateError;
use rustls::pki_types::CertificateDer;
use saegis_certificate::{Rejection, Summary, summary};
use tokio::io::{AsyncWrite, AsyncWriteExt};

/// The reason why a server established no association.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The peer closed the connection, or the connection broke.
    #[error("the connection ended: {0}")]
    Connection(#[source] io::Error),
    /// The first bytes are an HTTP request without TLS.
    #[error("the peer speaks HTTP without TLS")]
    PlainHttp,
    /// The first bytes are not TLS.
    #[error("the peer does not speak TLS")]
    NotTls,
    /// The first flight is too large.
    #[error("the ClientHello is too large")]
    TooLarge,
    /// The first flight is not a valid ClientHello.
    #[error("the ClientHello is malformed: {0}")]
    Malformed(&'static str),
    /// The first flight has an unexpected record or message.
    #[error("the ClientHello is malformed: {0}")]
    Unexpected(&'static str),
    /// The first flight has a renegotiation_info that is not empty.
    #[error("the ClientHello is malformed: its renegotiation_info is not empty")]
    Renegotiation,
    /// The first flight has an invalid max_fragment_length.
    #[error("the ClientHello is malformed: its max_fragment_length is invalid")]
    FragmentLength,
    /// A record of the first flight is too long.
    #[error("the ClientHello is malformed: a record is too long")]
    LongRecord,
    /// The client does not support TLS 1.2 or later.
    #[error("the client offers no TLS version from 1.2 on")]
    OldVersion,
    /// The client offers certificates only, and the server has none configured.
    #[error(
        "the client offers no suite with a pre-shared key, and no certificates are configured \
         (policies/certificates.toml)"
    )]
    CertificatesOnly,
    /// The client offers a pre-shared key in TLS 1.3, and presents no certificate.
    #[error(
        "the client offers a pre-shared key in TLS 1.3, which is not supported: pre-shared keys are \
         supported in TLS 1.2; set its highest version to 1.2"
    )]
    PskOfTls13,
    /// The client offers no supported certificate suite.
    #[error("the client offers no supported cipher suite")]
    NoCommonSuite,
    /// The peer's certificate or raw public key was rejected.
    #[error("{0}")]
    Certificate(#[source] Rejection),
    /// The peer's certificate was rejected, and could be parsed.
    #[error("{rejection}")]
    NamedCertificate {
        /// Reason.
        #[source]
        rejection: Rejection,
        /// The certificate.
        named: Box<NamedCertificate>,
    },
    /// The peer's certificate is valid, but policy maps it to no entity.
    #[error("{identity} was refused: {why}")]
    Unmapped {
        /// Identity in the certificate.
        identity: String,
        /// Reason of the policy.
        why: NoCredential,
    },
    /// The psk_identity is malformed: empty, too long, not UTF-8, or with a NUL.
    #[error("the psk_identity is malformed: {0}")]
    MalformedIdentity(&'static str),
    /// The identity has no credential. The peer sees the same as with a wrong key.
    #[error("the psk_identity {identity:?} was refused: {why}")]
    Identity {
        /// Claimed identity.
        identity: String,
        /// Reason of the lookup.
        why: NoCredential,
    },
    /// The peer's key differs from the credential's.
    #[error("the peer of the psk_identity {identity:?} has another key")]
    WrongKey {
        /// Claimed identity.
        identity: String,
    },
    /// Any other violation of the protocol.
    #[error("the handshake failed: {0}")]
    Protocol(String),
}

impl Refusal {
    /// Returns a short name for logs and counters.
    #[must_use]
    pub fn cause(&self) -> &'static str {
        match self {
            Self::Connection(_) => "connection",
            Self::PlainHttp => "plain-http",
            Self::NotTls => "not-tls",
            Self::TooLarge => "too-large",
            Self::Malformed(_)
            | Self::Unexpected(_)
            | Self::Renegotiation
            | Self::FragmentLength
            | Self::LongRecord => "malformed",
            Self::PskOfTls13 => "tls13-psk",
            Self::OldVersion => "old-version",
            Self::CertificatesOnly => "certificates-only",
            Self::NoCommonSuite => "no-common-suite",
            Self::Certificate(rejection) | Self::NamedCertificate { rejection, .. } => {
                match rejection {
                    Rejection::Expired => "expired",
                    Rejection::Revoked => "revoked",
                    _ => "certificate",
                }
            }
            Self::Unmapped { why, .. } | Self::Identity { why, .. } => why.cause,
            Self::MalformedIdentity(_) => "malformed-identity",
            Self::WrongKey { .. } => "wrong-key",
            Self::Protocol(_) => "protocol",
        }
    }

    /// Returns the identity that the peer claimed: its psk_identity, or that of its certificate.
    #[must_use]
    pub fn identity(&self) -> Option<&str> {
        match self {
            Self::Identity { identity, .. }
            | Self::WrongKey { identity }
            | Self::Unmapped { identity, .. } => Some(identity),
            Self::NamedCertificate { named, .. } => named.names.first().map(String::as_str),
            _ => None,
        }
    }

    /// Returns the certificate that was rejected, if it could be parsed.
    #[must_use]
    pub fn certificate(&self) -> Option<&NamedCertificate> {
        match self {
            Self::NamedCertificate { named, .. } => Some(named),
            _ => None,
        }
    }

    /// Returns the alert for a refusal before an engine handled the connection.
    #[must_use]
    pub fn alert(&self) -> Option<Alert> {
        match self {
            Self::Malformed(_) | Self::TooLarge => Some(Alert::DecodeError),
            Self::Unexpected(_) => Some(Alert::UnexpectedMessage),
            Self::LongRecord => Some(Alert::RecordOverflow),
            Self::OldVersion => Some(Alert::ProtocolVersion),
            Self::FragmentLength => Some(Alert::IllegalParameter),
            Self::CertificatesOnly
            | Self::PskOfTls13
            | Self::NoCommonSuite
            | Self::Renegotiation => Some(Alert::HandshakeFailure),
            Self::Connection(_)
            | Self::PlainHttp
            | Self::NotTls
            | Self::MalformedIdentity(_)
            | Self::Identity { .. }
            | Self::WrongKey { .. }
            | Self::Certificate(_)
            | Self::NamedCertificate { .. }
            | Self::Unmapped { .. }
            | Self::Protocol(_) => None,
        }
    }
}

/// The reason why an identity has no credential, or a certificate no entity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoCredential {
    /// Short name for logs and counters.
    pub cause: &'static str,
    /// Reason, as text.
    pub why: String,
}

/// The reason of a lookup that does not know the identity.
impl From<&str> for NoCredential {
    fn from(why: &str) -> Self {
        Self { cause: "unknown-identity", why: why.into() }
    }
}

impl fmt::Display for NoCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

/// Names of a rejected certificate, which are not verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedCertificate {
    /// Subject.
    pub subject: String,
    /// Serial number, in hexadecimal digits.
    pub serial: String,
    /// Subject alternative names.
    pub names: Vec<String>,
}

impl NamedCertificate {
    /// Reads the names of a certificate. Returns `None` if it cannot be parsed.
    pub(crate) fn of(der: &CertificateDer<'_>) -> Option<Self> {
        let Summary { subject, serial, names, .. } = summary(der).ok()?;
        Some(Self { subject, serial, names })
    }
}

/// A fatal alert (RFC 5246 clause 7.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Alert {
    /// An unexpected message.
    UnexpectedMessage = 10,
    /// A record that is too long.
    RecordOverflow = 22,
    /// No common suite.
    HandshakeFailure = 40,
    /// A certificate that cannot be parsed, or with an unacceptable name.
    BadCertificate = 42,
    /// A certificate for another purpose, or with an unsupported kind of key.
    UnsupportedCertificate = 43,
    /// A revoked certificate.
    CertificateRevoked = 44,
    /// A certificate that has expired or is not valid yet.
    CertificateExpired = 45,
    /// A field with an invalid value.
    IllegalParameter = 47,
    /// A certificate of an untrusted authority.
    UnknownCa = 48,
    /// A valid certificate without an entity.
    AccessDenied = 49,
    /// A message that cannot be parsed.
    DecodeError = 50,
    /// An invalid signature.
    DecryptError = 51,
    /// No common version.
    ProtocolVersion = 70,
}

impl Alert {
    /// Returns the alert for a rejected certificate, the same that rustls sends.
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

    /// Returns the registered name.
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
            Self::IllegalParameter => "illegal_parameter",
            Self::UnknownCa => "unknown_ca",
            Self::AccessDenied => "access_denied",
            Self::DecodeError => "decode_error",
            Self::DecryptError => "decrypt_error",
            Self::ProtocolVersion => "protocol_version",
        }
    }

    /// Sends the alert in its own record.
    ///
    /// # Errors
    /// Returns an error if the connection is closed.
    pub async fn send(self, socket: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        socket.write_all(&self.record()).await?;
        socket.flush().await
    }

    /// Returns the encoded record.
    pub(crate) fn record(self) -> [u8; 7] {
        const ALERT: u8 = 21;
        const FATAL: u8 = 2;
        [ALERT, 3, 3, 0, 2, FATAL, self as u8]
    }
}
