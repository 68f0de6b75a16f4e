//! Why a certificate is not accepted: precise for the log, one of a few alerts from outside.

use rustls::CertificateError;

use crate::flavour::Flavour;
use crate::key_kind::{KeyKind, UnsupportedKey};
use crate::limits::{MAX_CERTIFICATE, MAX_CHAIN};

/// Why a certificate, or a raw public key, is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// No certificate was shown.
    #[error("the peer showed no certificate")]
    Missing,
    /// It can't be read.
    #[error("the certificate is malformed: {0}")]
    Malformed(&'static str),
    /// A certificate is larger than one may be.
    #[error("the certificate has {0} bytes; at most {max} are read", max = MAX_CERTIFICATE)]
    TooLarge(usize),
    /// The chain has more certificates than one may have.
    #[error("the chain has {0} certificates; at most {max} are read", max = MAX_CHAIN)]
    TooLong(usize),
    /// No trust anchor has issued it, directly or by what was sent with it.
    #[error("no trust anchor has issued the certificate")]
    UnknownIssuer,
    /// A certificate of the chain is valid no more.
    #[error("the certificate has expired, or one of its chain has")]
    Expired,
    /// A certificate of the chain is not valid yet.
    #[error("the certificate is not valid yet, or one of its chain is not")]
    NotYetValid,
    /// A certificate of the chain was revoked.
    #[error("the certificate is revoked, or one of its chain is")]
    Revoked,
    /// The trust anchor has revocation lists that can't be used: one is out of date, say.
    #[error("it can't be known whether the certificate is revoked: {0}")]
    RevocationUnknown(String),
    /// A signature in the chain is wrong.
    #[error("a signature in the certificate's chain is wrong")]
    BadSignature,
    /// It is for something else (extended key usage).
    #[error("the certificate is not for this purpose (extended key usage)")]
    Purpose,
    /// Its key may not make signatures (TS-0003 clause 10.1.1.1).
    #[error("the certificate's key usage lacks digitalSignature")]
    KeyUsage,
    /// A key of the chain is of a kind that the trust anchor does not allow.
    #[error("the chain has a key of the kind {0}; add it to the trust anchor's `keys` to allow it")]
    Key(KeyKind),
    /// A key of the chain is of a kind that nobody may have.
    #[error(
        "the chain has a key that is neither P-256 or P-384 with an uncompressed point nor RSA of 2048 to 8192 bits"
    )]
    OtherKey,
    /// A name in the chain is not one that its issuers may give.
    #[error("the certificate's names are not within the name constraints of its issuers")]
    NameConstraints,
    /// It breaks another rule of RFC 5280.
    #[error("the certificate's chain breaks a rule of RFC 5280: {0}")]
    Path(String),
    /// Its subject alternative names hold no identity that the trust anchor vouches for.
    #[error("no subject alternative name is an identity that its trust anchor vouches for ({0})")]
    NoIdentity(String),
    /// Its subject alternative names hold two identities.
    #[error("the subject alternative names hold two identities, {0} and {1}")]
    Conflict(String, String),
    /// A name has a wildcard.
    #[error("the name {0:?} has a wildcard")]
    Wildcard(String),
    /// It is somebody's that has no business here.
    #[error("{0}: {1}")]
    NotOurs(String, &'static str),
    /// The server is not who it should be.
    #[error("the certificate does not prove {0}")]
    AnotherServer(String),
    /// The raw public key is not pinned.
    #[error("the raw public key {0} is not pinned")]
    UnknownKey(String),
    /// Neither a trust anchor nor a pinned key is there.
    #[error("there are no trust anchors for this (policies/certificates.toml)")]
    NoTrust,
}

impl Rejection {
    /// The same for an engine, which sends the alert that stands for it.
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
                Self::Malformed("it is no X.509 certificate")
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
