//! What an operator wants to know of a certificate.

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
