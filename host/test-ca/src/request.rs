//! Requests for certificates.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, IsCa,
};
use rcgen::{ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, SerialNumber};

use crate::name::{self, Name};
use crate::{TrialError, der};

/// The kind of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Key {
    /// secp256r1, which the profile requires.
    #[default]
    P256,
    /// secp384r1.
    P384,
    /// RSA of 2048 bits.
    Rsa,
}

impl Key {
    /// Generates a key.
    pub(crate) fn generate(self) -> Result<KeyPair, TrialError> {
        let algorithm = match self {
            Self::P256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            Self::P384 => &rcgen::PKCS_ECDSA_P384_SHA384,
            Self::Rsa => &rcgen::PKCS_RSA_SHA256,
        };
        Ok(KeyPair::generate_for(algorithm)?)
    }
}

/// The validity of a certificate or list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// Start.
    pub from: SystemTime,
    /// End.
    pub until: SystemTime,
}

impl Validity {
    const HOUR: Duration = Duration::from_secs(3600);

    /// Returns a validity of this many days from now on. It starts an hour ago, because clocks
    /// differ.
    #[must_use]
    pub fn days(days: u32) -> Self {
        let now = SystemTime::now();
        Self { from: now - Self::HOUR, until: now + 24 * days * Self::HOUR }
    }
}

impl Default for Validity {
    /// Returns a validity of a year.
    fn default() -> Self {
        Self::days(365)
    }
}

/// A request for a certificate. The defaults follow the profile: a P-256 key, a year,
/// digitalSignature for both ends of TLS, and for an authority keyCertSign and cRLSign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    common_name: String,
    names: Vec<Name>,
    pub(crate) key: Key,
    validity: Validity,
    usages: Option<Vec<KeyUsagePurpose>>,
    extended: Option<Vec<ExtendedKeyUsagePurpose>>,
    permitted: Vec<Name>,
    excluded: Vec<Name>,
    path_length: Option<u8>,
    authority: bool,
    extensions: Vec<(String, bool, Vec<u8>)>,
}

impl Request {
    /// Creates a request for a subject with this common name, or without a name if it is empty.
    #[must_use]
    pub fn new(common_name: impl Into<String>) -> Self {
        Self {
            common_name: common_name.into(),
            names: Vec::new(),
            key: Key::default(),
            validity: Validity::default(),
            usages: None,
            extended: None,
            permitted: Vec::new(),
            excluded: Vec::new(),
            path_length: None,
            authority: true,
            extensions: Vec::new(),
        }
    }

    /// Adds a subject alternative name.
    #[must_use]
    pub fn name(mut self, name: Name) -> Self {
        self.names.push(name);
        self
    }

    /// Sets the kind of the key.
    #[must_use]
    pub fn key(mut self, key: Key) -> Self {
        self.key = key;
        self
    }

    /// Sets the validity.
    #[must_use]
    pub fn valid(mut self, validity: Validity) -> Self {
        self.validity = validity;
        self
    }

    /// Sets the key usage; an empty list omits the extension.
    #[must_use]
    pub fn usages(mut self, usages: impl Into<Vec<KeyUsagePurpose>>) -> Self {
        self.usages = Some(usages.into());
        self
    }

    /// Sets the extended key usage; an empty list omits the extension.
    #[must_use]
    pub fn extended_usages(mut self, usages: impl Into<Vec<ExtendedKeyUsagePurpose>>) -> Self {
        self.extended = Some(usages.into());
        self
    }

    /// Permits an authority to issue these names, and no others of their form.
    #[must_use]
    pub fn permit(mut self, name: Name) -> Self {
        self.permitted.push(name);
        self
    }

    /// Forbids an authority to issue these names.
    #[must_use]
    pub fn exclude(mut self, name: Name) -> Self {
        self.excluded.push(name);
        self
    }

    /// Sets the maximum number of authorities below this one in a chain.
    #[must_use]
    pub fn path_length(mut self, length: u8) -> Self {
        self.path_length = Some(length);
        self
    }

    /// Omits the CA flag from the certificate of an authority, for tests.
    #[must_use]
    pub fn without_authority(mut self) -> Self {
        self.authority = false;
        self
    }

    /// Adds an extension: its object identifier, whether it is critical, and its content in DER. It
    /// follows all others, even one of the same kind.
    #[must_use]
    pub fn extension(
        mut self,
        oid: impl Into<String>,
        critical: bool,
        content: impl Into<Vec<u8>>,
    ) -> Self {
        self.extensions.push((oid.into(), critical, content.into()));
        self
    }

    /// Returns the parameters for rcgen, with a random serial number.
    pub(crate) fn params(&self, authority: bool) -> Result<CertificateParams, TrialError> {
        const NAMES: &str = "2.5.29.17";
        const CONSTRAINTS: &str = "2.5.29.30";
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        if !self.common_name.is_empty() {
            params.distinguished_name.push(DnType::CommonName, self.common_name.as_str());
        }
        params.not_before = self.validity.from.into();
        params.not_after = self.validity.until.into();
        let serial = rand::random::<u128>() >> 1;
        params.serial_number = Some(SerialNumber::from_slice(&serial.to_be_bytes()));
        params.use_authority_key_identifier_extension = true;
        params.is_ca = match (authority && self.authority, self.path_length) {
            (true, Some(length)) => IsCa::Ca(BasicConstraints::Constrained(length)),
            (true, None) => IsCa::Ca(BasicConstraints::Unconstrained),
            (false, _) => IsCa::ExplicitNoCa,
        };
        let (usages, extended) = if authority {
            (vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign], Vec::new())
        } else {
            let both =
                vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
            (vec![KeyUsagePurpose::DigitalSignature], both)
        };
        params.key_usages = self.usages.clone().unwrap_or(usages);
        params.extended_key_usages = self.extended.clone().unwrap_or(extended);
        let mut add = |oid: &str, critical, content| {
            let mut extension = CustomExtension::from_oid_content(&der::arcs(oid)?, content);
            extension.set_criticality(critical);
            params.custom_extensions.push(extension);
            Ok::<_, TrialError>(())
        };
        if !self.names.is_empty() {
            // A subject without a name is identified by these (RFC 5280 clause 4.1.2.6).
            add(NAMES, self.common_name.is_empty(), name::alternatives(&self.names)?)?;
        }
        if !self.permitted.is_empty() || !self.excluded.is_empty() {
            add(CONSTRAINTS, true, name::constraints(&self.permitted, &self.excluded)?)?;
        }
        for (oid, critical, content) in &self.extensions {
            add(oid, *critical, content.clone())?;
        }
        Ok(params)
    }
}
