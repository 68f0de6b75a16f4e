//! A certificate of our own, with its key.

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

/// A certificate of our own, the chain that it is shown with, and its key.
///
/// It has neither `Debug` nor `Clone`; the key's bytes are overwritten when it is dropped.
pub struct OwnCertificate {
    certified: Arc<CertifiedKey>,
    key: Zeroizing<Vec<u8>>,
    names: Vec<String>,
    not_after: SystemTime,
}

/// A certificate that can't be shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OwnError {
    /// There is none.
    #[error("has no certificate in it")]
    NoCertificate,
    /// It can't be read, or breaks the profile.
    #[error("{0}")]
    Certificate(Rejection),
    /// The key can't be used.
    #[error("the key can't be used: {0}")]
    Key(String),
    /// The key is another's.
    #[error("the key is not that of the certificate")]
    AnotherKey,
}

impl OwnCertificate {
    /// Puts a chain, the own certificate first, and its key together.
    ///
    /// # Errors
    /// Why they can't be used.
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

    /// The chain, the own certificate first.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.certified.cert
    }

    /// Chain and key, for the engine that takes them so.
    #[must_use]
    pub fn certified(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }

    /// The key in DER, for the engine that takes it so.
    #[must_use]
    pub fn expose_key(&self) -> &[u8] {
        &self.key
    }

    /// The domain names in it, in lower case: who is asked for by one of them shows it.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// From when on it is valid no more.
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
