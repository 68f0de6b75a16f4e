//! Reading a certificate: bounded, whole, and each extension once.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::oid_registry::OID_X509_EXT_NAME_CONSTRAINTS;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;
use x509_parser::time::ASN1Time;

use crate::constraints::Constraints;
use crate::rejection::Rejection;
use crate::trust::KeyKind;
use crate::verify::MAX_CERTIFICATE;

/// Most subject alternative names of a certificate that are looked at.
const MAX_NAMES: usize = 64;

/// A certificate that was read whole.
pub(crate) struct Read<'a> {
    pub certificate: X509Certificate<'a>,
    /// Its subject alternative names.
    pub names: Vec<GeneralName<'a>>,
    /// The name constraints that it imposes.
    pub constraints: Option<Constraints<'a>>,
}

impl<'a> Read<'a> {
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
        KeyKind::of(self.certificate.public_key())
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
fn time(at: ASN1Time) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(at.timestamp()).unwrap_or(0))
}

/// When a revocation list was issued, and when the next one is due: then it says nothing any more. None
/// where it does not say that, or can't be read.
#[must_use]
pub fn list_times(der: &[u8]) -> Option<(SystemTime, SystemTime)> {
    let (_, list) = CertificateRevocationList::from_der(der).ok()?;
    Some((time(list.last_update()), time(list.next_update()?)))
}

/// What whoever runs a gateway wants to know of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The subject, as text.
    pub subject: String,
    /// The issuer, as text.
    pub issuer: String,
    /// The serial number, in hexadecimal digits.
    pub serial: String,
    /// From when on it is valid.
    pub not_before: SystemTime,
    /// From when on it is valid no more.
    pub not_after: SystemTime,
    /// The kind of its key, if it is one that certificates may have.
    pub key: Option<KeyKind>,
    /// Whether it is that of a certification authority.
    pub is_ca: bool,
    /// Whether its key usage has digitalSignature.
    pub may_sign: bool,
    /// Its key usage, as text; nothing, where it has none.
    pub usage: Vec<String>,
    /// What it is for (extended key usage), as text; nothing, where it does not say.
    pub purposes: Vec<String>,
    /// Its subject alternative names, as text.
    pub names: Vec<String>,
    /// The name constraints that it imposes, as text.
    pub constraints: Vec<String>,
}

/// Reads a certificate, without asking whether anybody vouches for it.
///
/// # Errors
/// When it can't be read.
pub fn summary(der: &CertificateDer<'_>) -> Result<Summary, Rejection> {
    let read = Read::new(der)?;
    let certificate = &read.certificate;
    let texts = |word: &'static str, list: &[GeneralName<'_>]| -> Vec<String> {
        list.iter().map(|name| format!("{word} {}", crate::identity::text_of(name))).collect()
    };
    let constraints = read.constraints.as_ref().map(|constraints| {
        let permits = texts("permits", &constraints.permitted);
        [permits, texts("excludes", &constraints.excluded)].concat()
    });
    Ok(Summary {
        subject: certificate.subject().to_string(),
        issuer: certificate.issuer().to_string(),
        serial: certificate.raw_serial_as_string(),
        not_before: read.not_before(),
        not_after: read.not_after(),
        key: read.key_kind().ok(),
        is_ca: certificate.is_ca(),
        may_sign: read.may_sign(),
        usage: usage(certificate),
        purposes: purposes(certificate),
        names: read.names.iter().map(crate::identity::text_of).collect(),
        constraints: constraints.unwrap_or_default(),
    })
}

fn usage(certificate: &X509Certificate<'_>) -> Vec<String> {
    const NAMES: [&str; 9] = [
        "digitalSignature",
        "nonRepudiation",
        "keyEncipherment",
        "dataEncipherment",
        "keyAgreement",
        "keyCertSign",
        "cRLSign",
        "encipherOnly",
        "decipherOnly",
    ];
    let Some(usage) = certificate.key_usage().ok().flatten() else { return Vec::new() };
    let set = NAMES.iter().enumerate().filter(|(bit, _)| usage.value.flags >> bit & 1 == 1);
    set.map(|(_, name)| (*name).into()).collect()
}

fn purposes(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Some(found) = certificate.extended_key_usage().ok().flatten() else { return Vec::new() };
    let named = [
        (found.value.any, "any"),
        (found.value.server_auth, "serverAuth"),
        (found.value.client_auth, "clientAuth"),
        (found.value.code_signing, "codeSigning"),
        (found.value.email_protection, "emailProtection"),
        (found.value.time_stamping, "timeStamping"),
        (found.value.ocsp_signing, "OCSPSigning"),
    ];
    let named = named.iter().filter(|(set, _)| *set).map(|(_, name)| (*name).to_string());
    named.chain(found.value.other.iter().map(ToString::to_string)).collect()
}
