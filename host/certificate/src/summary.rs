//! Summaries of certificates and revocation lists for operators.

use std::time::SystemTime;

use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use crate::identity::text_of;
use crate::key_kind::KeyKind;
use crate::parsed::{ParsedCertificate, time};
use crate::rejection::Rejection;

/// Returns the issue time of a revocation list, and that of the next one, after which this one
/// expires. Returns `None` if the list has no such time or cannot be parsed.
#[must_use]
pub fn list_times(der: &[u8]) -> Option<(SystemTime, SystemTime)> {
    let (_, list) = CertificateRevocationList::from_der(der).ok()?;
    Some((time(list.last_update()), time(list.next_update()?)))
}

/// A summary of a certificate for operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Subject, as text.
    pub subject: String,
    /// Issuer, as text.
    pub issuer: String,
    /// Serial number, in hexadecimal digits.
    pub serial: String,
    /// Start of the validity.
    pub not_before: SystemTime,
    /// End of the validity.
    pub not_after: SystemTime,
    /// Kind of the key, if supported.
    pub key: Option<KeyKind>,
    /// Whether the certificate is that of a certification authority.
    pub is_ca: bool,
    /// Whether the key usage has digitalSignature.
    pub may_sign: bool,
    /// Key usage, as text; empty if absent.
    pub usage: Vec<String>,
    /// Extended key usage, as text; empty if absent.
    pub purposes: Vec<String>,
    /// Subject alternative names, as text.
    pub names: Vec<String>,
    /// Name constraints, as text.
    pub constraints: Vec<String>,
}

/// Summarizes a certificate without verifying it.
///
/// # Errors
/// Returns an error if the certificate cannot be parsed.
pub fn summary(der: &CertificateDer<'_>) -> Result<Summary, Rejection> {
    let read = ParsedCertificate::new(der)?;
    let certificate = &read.certificate;
    let texts = |word: &'static str, list: &[GeneralName<'_>]| -> Vec<String> {
        list.iter().map(|name| format!("{word} {}", text_of(name))).collect()
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
        names: read.names.iter().map(text_of).collect(),
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
