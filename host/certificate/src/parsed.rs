//! Reading a certificate: bounded, whole, and each extension once.

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

/// Most subject alternative names of a certificate that are looked at.
const MAX_NAMES: usize = 64;

/// A certificate that was read whole.
pub(crate) struct ParsedCertificate<'a> {
    pub certificate: X509Certificate<'a>,
    /// Its subject alternative names.
    pub names: Vec<GeneralName<'a>>,
    /// The name constraints that it imposes.
    pub constraints: Option<Constraints<'a>>,
}

impl<'a> ParsedCertificate<'a> {
    /// Reads a certificate.
    pub fn new(der: &'a [u8]) -> Result<Self, Rejection> {
        if der.len() > MAX_CERTIFICATE {
            return Err(Rejection::TooLarge(der.len()));
        }
        let bad = Rejection::Malformed;
        let (rest, certificate) =
            X509Certificate::from_der(der).map_err(|_| bad("it is no X.509 certificate"))?;
        if !rest.is_empty() {
            return Err(bad("it has bytes behind its end"));
        }
        // One that stands twice would be read in one way here and in another elsewhere.
        certificate.extensions_map().map_err(|_| bad("an extension stands twice"))?;
        let names = match certificate.subject_alternative_name() {
            Ok(None) => Vec::new(),
            Ok(Some(names)) => names.value.general_names.clone(),
            Err(_) => return Err(bad("its subject alternative names can't be read")),
        };
        if names.len() > MAX_NAMES {
            return Err(bad("it has too many subject alternative names"));
        }
        if names.iter().any(|name| matches!(name, GeneralName::Invalid(..))) {
            return Err(bad("one of its subject alternative names can't be read"));
        }
        let constraints = match certificate.get_extension_unique(&OID_X509_EXT_NAME_CONSTRAINTS) {
            Ok(None) => None,
            Ok(Some(extension)) => {
                let unreadable = || bad("its name constraints can't be read");
                Some(Constraints::read(extension.value).ok_or_else(unreadable)?)
            }
            Err(_) => return Err(bad("an extension stands twice")),
        };
        Ok(Self { certificate, names, constraints })
    }

    /// The kind of its key.
    pub fn key_kind(&self) -> Result<KeyKind, Rejection> {
        Ok(KeyKind::of(self.certificate.public_key())?)
    }

    /// Whether its key may make signatures: key usage is there and has digitalSignature.
    pub fn may_sign(&self) -> bool {
        let usage = self.certificate.key_usage().ok().flatten();
        usage.is_some_and(|usage| usage.value.digital_signature())
    }

    /// Whether its key may sign certificates, as far as its key usage says.
    pub fn may_issue(&self) -> bool {
        let usage = self.certificate.key_usage();
        usage.is_ok_and(|usage| usage.is_none_or(|usage| usage.value.key_cert_sign()))
    }

    /// From when on it is valid.
    pub fn not_before(&self) -> SystemTime {
        time(self.certificate.validity().not_before)
    }

    /// From when on it is valid no more.
    pub fn not_after(&self) -> SystemTime {
        time(self.certificate.validity().not_after)
    }
}

/// A moment; one before 1970 is 1970, which is long past.
pub(crate) fn time(at: ASN1Time) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(at.timestamp()).unwrap_or(0))
}
