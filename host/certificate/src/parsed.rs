//! Parses certificates: bounded, completely, and each extension once.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::oid_registry::OID_X509_EXT_NAME_CONSTRAINTS;
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;

use crate::key_kind::KeyKind;
use crate::limits::MAX_CERTIFICATE;
use crate::name_constraints::Constraints;
use crate::rejection::Rejection;

/// Maximum number of subject alternative names of a certificate.
const MAX_NAMES: usize = 64;

/// A completely parsed certificate.
pub(crate) struct ParsedCertificate<'a> {
    pub certificate: X509Certificate<'a>,
    /// Subject alternative names.
    pub names: Vec<GeneralName<'a>>,
    /// Name constraints that the certificate imposes.
    pub constraints: Option<Constraints<'a>>,
}

impl<'a> ParsedCertificate<'a> {
    /// Parses a certificate.
    pub fn new(der: &'a [u8]) -> Result<Self, Rejection> {
        if der.len() > MAX_CERTIFICATE {
            return Err(Rejection::TooLarge(der.len()));
        }
        let bad = Rejection::Malformed;
        let (rest, certificate) =
            X509Certificate::from_der(der).map_err(|_| bad("it is not an X.509 certificate"))?;
        if !rest.is_empty() {
            return Err(bad("it has trailing bytes"));
        }
        // Other parsers could use a different one of two duplicates.
        certificate.extensions_map().map_err(|_| bad("it has a duplicate extension"))?;
        let names = match certificate.subject_alternative_name() {
            Ok(None) => Vec::new(),
            Ok(Some(names)) => names.value.general_names.clone(),
            Err(_) => return Err(bad("its subject alternative names cannot be parsed")),
        };
        if names.len() > MAX_NAMES {
            return Err(bad("it has too many subject alternative names"));
        }
        if names.iter().any(|name| matches!(name, GeneralName::Invalid(..))) {
            return Err(bad("one of its subject alternative names cannot be parsed"));
        }
        let constraints = match certificate.get_extension_unique(&OID_X509_EXT_NAME_CONSTRAINTS) {
            Ok(None) => None,
            Ok(Some(extension)) => {
                let unreadable = || bad("its name constraints cannot be parsed");
                Some(Constraints::read(extension.value).ok_or_else(unreadable)?)
            }
            Err(_) => return Err(bad("it has a duplicate extension")),
        };
        Ok(Self { certificate, names, constraints })
    }

    /// Returns the kind of the key.
    pub fn key_kind(&self) -> Result<KeyKind, Rejection> {
        Ok(KeyKind::of(self.certificate.public_key())?)
    }

    /// Returns whether the key may sign: the certificate has key usage with digitalSignature.
    pub fn may_sign(&self) -> bool {
        let usage = self.certificate.key_usage().ok().flatten();
        usage.is_some_and(|usage| usage.value.digital_signature())
    }

    /// Returns whether the key usage, if present, allows the key to sign certificates.
    pub fn may_issue(&self) -> bool {
        let usage = self.certificate.key_usage();
        usage.is_ok_and(|usage| usage.is_none_or(|usage| usage.value.key_cert_sign()))
    }

    /// Returns the start of the validity.
    pub fn not_before(&self) -> SystemTime {
        time(self.certificate.validity().not_before)
    }

    /// Returns the end of the validity.
    pub fn not_after(&self) -> SystemTime {
        time(self.certificate.validity().not_after)
    }
}

/// Converts a time. A time before 1970 becomes 1970.
pub(crate) fn time(at: ASN1Time) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(at.timestamp()).unwrap_or(0))
}
