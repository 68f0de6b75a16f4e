//! The reasons why a certificate is rejected: precise in the log, one of a few alerts for the peer.

use rustls::CertificateError;

use crate::flavour::Flavour;
use crate::key_kind::{KeyKind, UnsupportedKey};
use crate::limits::{MAX_CERTIFICATE, MAX_CHAIN};

/// The reason why a certificate or raw public key is rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// The peer presented no certificate.
    #[error("the peer presented no certificate")]
    Missing,
    /// The certificate cannot be parsed.
    #[error("the certificate is malformed: {0}")]
    Malformed(&'static str),
    /// A certificate is too large.
    #[error("the certificate has {0} bytes; the maximum is {max}", max = MAX_CERTIFICATE)]
    TooLarge(usize),
    /// The chain has too many certificates.
    #[error("the chain has {0} certificates; the maximum is {max}", max = MAX_CHAIN)]
    TooLong(usize),
    /// No trust anchor issued the certificate, directly or through the certificates sent with it.
    #[error("no trust anchor has issued the certificate")]
    UnknownIssuer,
    /// A certificate of the chain has expired.
    #[error("the certificate or one of its issuers has expired")]
    Expired,
    /// A certificate of the chain is not valid yet.
    #[error("the certificate or one of its issuers is not valid yet")]
    NotYetValid,
    /// A certificate of the chain was revoked.
    #[error("the certificate or one of its issuers is revoked")]
    Revoked,
    /// A revocation list of the trust anchor cannot be used, for example because it is out of date.
    #[error("the revocation status of the certificate is unknown: {0}")]
    RevocationUnknown(String),
    /// A signature in the chain is invalid.
    #[error("a signature in the certificate's chain is invalid")]
    BadSignature,
    /// The certificate is for another purpose (extended key usage).
    #[error("the certificate is not for this purpose (extended key usage)")]
    Purpose,
    /// The key must not be used for signatures (TS-0003 clause 10.1.1.1).
    #[error("the certificate's key usage lacks digitalSignature")]
    KeyUsage,
    /// A key of the chain is of a kind that the trust anchor does not allow.
    #[error("the chain has a key of the kind {0}; add it to the trust anchor's `keys` to allow it")]
    Key(KeyKind),
    /// A key of the chain is of an unsupported kind.
    #[error(
        "the chain has a key that is neither P-256 or P-384 with an uncompressed point nor RSA of 2048 to 8192 bits"
    )]
    OtherKey,
    /// A name in the chain violates the name constraints of its issuers.
    #[error("the certificate's names violate the name constraints of its issuers")]
    NameConstraints,
    /// The chain violates another rule of RFC 5280.
    #[error("the certificate's chain violates RFC 5280: {0}")]
    Path(String),
    /// The subject alternative names have no identity of a flavor that the trust anchor may issue.
    #[error(
        "no subject alternative name is an identity of a flavor that the trust anchor may issue ({0})"
    )]
    NoIdentity(String),
    /// The subject alternative names have two identities.
    #[error("the subject alternative names have two identities, {0} and {1}")]
    Conflict(String, String),
    /// A name has a wildcard.
    #[error("the name {0:?} has a wildcard")]
    Wildcard(String),
    /// The identity does not belong to this CSE or service provider.
    #[error("{0}: {1}")]
    NotOurs(String, &'static str),
    /// The certificate does not prove the expected identity of the server.
    #[error("the certificate does not prove {0}")]
    AnotherServer(String),
    /// The raw public key is not pinned.
    #[error("the raw public key {0} is not pinned")]
    UnknownKey(String),
    /// There is neither a trust anchor nor a pinned key.
    #[error("there are no trust anchors for this (policies/certificates.toml)")]
    NoTrust,
}

impl Rejection {
    /// Returns the error for a TLS engine, which determines the alert.
    #[must_use]
    pub fn as_error(&self) -> CertificateError {
        match self {
            Self::UnknownIssuer
            | Self::UnknownKey(_)
            | Self::NoTrust
            | Self::RevocationUnknown(_) => CertificateError::UnknownIssuer,
            Self::Expired | Self::NotYetValid => CertificateError::Expired,
            Self::Revoked => CertificateError::Revoked,
            Self::BadSignature => CertificateError::BadSignature,
            Self::Purpose | Self::KeyUsage | Self::Key(_) | Self::OtherKey => {
                CertificateError::InvalidPurpose
            }
            Self::Missing
            | Self::Malformed(_)
            | Self::TooLarge(_)
            | Self::TooLong(_)
            | Self::NameConstraints
            | Self::Path(_)
            | Self::NoIdentity(_)
            | Self::Conflict(..)
            | Self::Wildcard(_)
            | Self::NotOurs(..)
            | Self::AnotherServer(_) => CertificateError::BadEncoding,
        }
    }

    pub(crate) fn no_identity(flavours: &[Flavour]) -> Self {
        let names: Vec<_> = flavours.iter().map(ToString::to_string).collect();
        Self::NoIdentity(names.join(", "))
    }
}

impl From<webpki::Error> for Rejection {
    fn from(error: webpki::Error) -> Self {
        use webpki::Error as E;
        match error {
            E::UnknownIssuer => Self::UnknownIssuer,
            E::CertExpired { .. } => Self::Expired,
            E::CertNotValidYet { .. } => Self::NotYetValid,
            E::CertRevoked => Self::Revoked,
            E::CrlExpired { .. } => {
                Self::RevocationUnknown("its revocation list is out of date".into())
            }
            E::UnknownRevocationStatus
            | E::IssuerNotCrlSigner
            | E::InvalidCrlSignatureForPublicKey => Self::RevocationUnknown(error.to_string()),
            E::InvalidSignatureForPublicKey => Self::BadSignature,
            E::RequiredEkuNotFoundContext(_) | E::EmptyEkuExtension => Self::Purpose,
            E::NameConstraintViolation => Self::NameConstraints,
            E::BadDer | E::BadDerTime | E::TrailingData(_) | E::MalformedExtensions => {
                Self::Malformed("it is not an X.509 certificate")
            }
            other => Self::Path(other.to_string()),
        }
    }
}

impl From<UnsupportedKey> for Rejection {
    fn from(_: UnsupportedKey) -> Self {
        Self::OtherKey
    }
}
