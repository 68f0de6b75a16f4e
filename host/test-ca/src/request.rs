//! What a certificate is to say.

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
    /// secp256r1, which the profile wants.
    #[default]
    P256,
    /// secp384r1.
    P384,
    /// RSA of 2048 bits.
    Rsa,
}

impl Key {
    /// A new key.
    pub(crate) fn generate(self) -> Result<KeyPair, TrialError> {
        let algorithm = match self {
            Self::P256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            Self::P384 => &rcgen::PKCS_ECDSA_P384_SHA384,
            Self::Rsa => &rcgen::PKCS_RSA_SHA256,
        };
        Ok(KeyPair::generate_for(algorithm)?)
    }
}

/// From when until when something is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// From when on.
    pub from: SystemTime,
    /// Until when.
    pub until: SystemTime,
}

impl Validity {
    const HOUR: Duration = Duration::from_secs(3600);

    /// So many days from now on, and for the hour before: clocks differ.
    #[must_use]
    pub fn days(days: u32) -> Self {
        let now = SystemTime::now();
        Self { from: now - Self::HOUR, until: now + 24 * days * Self::HOUR }
    }
}

impl Default for Validity {
    /// A year.
    fn default() -> Self {
        Self::days(365)
    }
}

/// What a certificate is to say. What is left open is as the profile has it: a P-256 key, a year,
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
    /// A certificate for a subject with that common name, or with no name where it is empty.
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

    /// With one more subject alternative name.
    #[must_use]
    pub fn name(mut self, name: Name) -> Self {
        self.names.push(name);
        self
    }

    /// With a key of that kind.
    #[must_use]
    pub fn key(mut self, key: Key) -> Self {
        self.key = key;
        self
    }

    /// Valid for that time.
    #[must_use]
    pub fn valid(mut self, validity: Validity) -> Self {
        self.validity = validity;
        self
    }

    /// With that key usage; with none of it where the list is empty.
    #[must_use]
    pub fn usages(mut self, usages: impl Into<Vec<KeyUsagePurpose>>) -> Self {
        self.usages = Some(usages.into());
        self
    }

    /// With that extended key usage; with none of it where the list is empty.
    #[must_use]
    pub fn extended_usages(mut self, usages: impl Into<Vec<ExtendedKeyUsagePurpose>>) -> Self {
        self.extended = Some(usages.into());
        self
    }

    /// For an authority that may give such names, and no others of that form.
    #[must_use]
    pub fn permit(mut self, name: Name) -> Self {
        self.permitted.push(name);
        self
    }

    /// For an authority that may not give such names.
    #[must_use]
    pub fn exclude(mut self, name: Name) -> Self {
        self.excluded.push(name);
        self
    }

    /// For an authority with so many authorities below it in a chain, at the most.
    #[must_use]
    pub fn path_length(mut self, length: u8) -> Self {
        self.path_length = Some(length);
        self
    }

    /// For an authority whose certificate does not say that it is one, as a test may want it.
    #[must_use]
    pub fn without_authority(mut self) -> Self {
        self.authority = false;
        self
    }

    /// With one more extension: its object identifier, whether it is critical, and its content in
    /// DER. It comes behind all others, even behind one of the same kind.
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

    /// The same for the maker of certificates, with a serial number by chance.
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
            // Where the subject has no name, these are what names it (RFC 5280 clause 4.1.2.6).
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
