//! The gateway's own certificates, with their keys.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;
use zeroize::Zeroizing;

use crate::parsed::ParsedCertificate;
use crate::rejection::Rejection;

/// A certificate of this process, its chain and its key.
///
/// It has neither `Debug` nor `Clone`. The bytes of the key are overwritten on drop.
pub struct OwnCertificate {
    certified: Arc<CertifiedKey>,
    key: Zeroizing<Vec<u8>>,
    names: Vec<String>,
    not_after: SystemTime,
}

/// The reason why a certificate cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OwnError {
    /// There is no certificate.
    #[error("has no certificate")]
    NoCertificate,
    /// The certificate cannot be parsed, or violates the profile.
    #[error("{0}")]
    Certificate(Rejection),
    /// The key cannot be used.
    #[error("the key cannot be used: {0}")]
    Key(String),
    /// The key does not belong to the certificate.
    #[error("the key does not belong to the certificate")]
    AnotherKey,
}

impl OwnCertificate {
    /// Combines a chain, the own certificate first, and its key.
    ///
    /// # Errors
    /// Returns the reason why they cannot be used.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, OwnError> {
        let own = chain.first().ok_or(OwnError::NoCertificate)?;
        let read = ParsedCertificate::new(own).map_err(OwnError::Certificate)?;
        read.key_kind().map_err(OwnError::Certificate)?;
        if !read.may_sign() {
            return Err(OwnError::Certificate(Rejection::KeyUsage));
        }
        let dns = |name: &GeneralName<'_>| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        };
        let names = read.names.iter().filter_map(dns).collect();
        let not_after = read.not_after();
        let bytes = Zeroizing::new(key.secret_der().to_vec());
        let certified = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider());
        let certified = certified.map_err(|e| match e {
            rustls::Error::InconsistentKeys(_) => OwnError::AnotherKey,
            other => OwnError::Key(other.to_string()),
        })?;
        Ok(Self { certified: Arc::new(certified), key: bytes, names, not_after })
    }

    /// Returns the chain, the own certificate first.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.certified.cert
    }

    /// Returns the chain and the key for rustls.
    #[must_use]
    pub fn certified(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }

    /// Returns the key in DER for OpenSSL.
    #[must_use]
    pub fn expose_key(&self) -> &[u8] {
        &self.key
    }

    /// Returns the domain names of the certificate, in lower case. A client that indicates one of
    /// them gets this certificate.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Returns the end of the validity.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }
}

impl fmt::Display for OwnCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names.join(", "))
    }
}
