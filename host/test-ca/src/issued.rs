//! Issued certificates, revocation lists and keys.

use rcgen::{CertificateRevocationList, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::TrialError;
use crate::request::Key;

/// A certificate with its chain and its key.
pub struct Issued {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: KeyPair,
    pub(crate) serial: Vec<u8>,
    pub(crate) pem: String,
}

impl Issued {
    /// Returns the certificate in DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        self.chain.first().map(AsRef::as_ref).unwrap_or_default()
    }

    /// Returns the certificate, followed by those of the authorities between it and its root.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// Returns the chain in PEM.
    #[must_use]
    pub fn chain_pem(&self) -> &str {
        &self.pem
    }

    /// Returns the key in PEM (PKCS #8).
    #[must_use]
    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// Returns the key in DER (PKCS #8).
    #[must_use]
    pub fn key_der(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.serialize_der()).into()
    }

    /// Returns the serial number, by which the certificate can be revoked.
    #[must_use]
    pub fn serial(&self) -> &[u8] {
        &self.serial
    }
}

/// A revocation list.
pub struct RevocationList {
    pub(crate) list: CertificateRevocationList,
    pub(crate) pem: String,
}

impl RevocationList {
    /// Returns the list in DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        self.list.der()
    }

    /// Returns the list in PEM.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }
}

/// A key pair without a certificate (RFC 7250).
pub struct RawKey(KeyPair);

impl RawKey {
    /// Generates a key pair.
    ///
    /// # Errors
    /// Returns an error if the key cannot be generated.
    pub fn new(key: Key) -> Result<Self, TrialError> {
        Ok(Self(key.generate()?))
    }

    /// Returns the public key, a SubjectPublicKeyInfo in DER.
    #[must_use]
    pub fn public_der(&self) -> Vec<u8> {
        rcgen::PublicKeyData::subject_public_key_info(&self.0)
    }

    /// Returns the public key, a SubjectPublicKeyInfo in PEM.
    #[must_use]
    pub fn public_pem(&self) -> String {
        self.0.public_key_pem()
    }

    /// Returns the key in PEM (PKCS #8).
    #[must_use]
    pub fn key_pem(&self) -> String {
        self.0.serialize_pem()
    }

    /// Returns the key in DER (PKCS #8).
    #[must_use]
    pub fn key_der(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.0.serialize_der()).into()
    }
}
