//! Requests for certificates (PKCS #10, RFC 2986). Only the public key and the name are used.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::PublicKeyData;
use saegis_certificate::KeyKind;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry::OID_SIG_ECDSA_WITH_SHA256;
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::{X509Name, X509Version};

use crate::error::Refusal;
use crate::subject::SubjectName;

/// Maximum size of the content of a request, in bytes. A request with a P-256 key has about 500.
pub const MAX_REQUEST: usize = 16 << 10;

/// A P-256 public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PublicKey(Vec<u8>);

impl PublicKey {
    /// Takes an uncompressed point.
    pub(crate) fn of_point(point: &[u8]) -> Self {
        Self(point.to_vec())
    }
}

impl PublicKeyData for PublicKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

/// A request whose signature proves the possession of the private key.
pub struct CertificationRequest {
    der: Vec<u8>,
    key: PublicKey,
}

impl CertificationRequest {
    /// Reads the content of a request: a PKCS #10 request in base64.
    ///
    /// # Errors
    /// Refuses content that is too large or malformed, another kind of key, a wrong signature, and a
    /// request for anything but one subject alternative name.
    pub fn read(content: &[u8]) -> Result<Self, Refusal> {
        if content.len() > MAX_REQUEST {
            let why = format!("the request is larger than {MAX_REQUEST} bytes");
            return Err(Refusal::new(http::StatusCode::PAYLOAD_TOO_LARGE, why));
        }
        if content.starts_with(b"-----BEGIN") {
            return Err(Refusal::bad("the request is in PEM; send its base64 without these lines"));
        }
        let text: Vec<u8> = content.iter().copied().filter(|b| !b.is_ascii_whitespace()).collect();
        let der = STANDARD.decode(text).map_err(|_| Refusal::bad("the request is not base64"))?;
        let key = {
            let parsed = parse(&der)?;
            check(&parsed)?;
            let info = &parsed.certification_request_info;
            PublicKey::of_point(&info.subject_pki.subject_public_key.data)
        };
        Ok(Self { der, key })
    }

    pub(crate) fn key(&self) -> &PublicKey {
        &self.key
    }

    /// Returns whether the only name in the request is this one.
    #[must_use]
    pub fn is_for(&self, name: &SubjectName) -> bool {
        self.with_parts(|names, _| matches!(names, [only] if name.is(only)))
    }

    /// Returns whether the subject in the request is that of a certificate with this name.
    pub(crate) fn has_subject_of(&self, name: &SubjectName) -> bool {
        self.with_parts(|_, subject| name.is_subject(subject))
    }

    /// Returns the name in the request, for logs.
    #[must_use]
    pub fn requested_name(&self) -> String {
        let mut text = String::new();
        self.with_parts(|names, _| {
            text = names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            true
        });
        text
    }

    fn with_parts(&self, check: impl FnOnce(&[GeneralName<'_>], &X509Name<'_>) -> bool) -> bool {
        let Ok(parsed) = parse(&self.der) else { return false };
        let Ok(names) = names(&parsed) else { return false };
        check(names, &parsed.certification_request_info.subject)
    }
}

fn parse(der: &[u8]) -> Result<X509CertificationRequest<'_>, Refusal> {
    match X509CertificationRequest::from_der(der) {
        Ok(([], parsed)) => Ok(parsed),
        _ => Err(Refusal::bad("the content is not a PKCS #10 request")),
    }
}

fn check(parsed: &X509CertificationRequest<'_>) -> Result<(), Refusal> {
    let info = &parsed.certification_request_info;
    if info.version != X509Version::V1 {
        return Err(Refusal::bad("the version of the request is not supported"));
    }
    if !matches!(KeyKind::of_key(info.subject_pki.raw), Some(Ok(KeyKind::P256))) {
        return Err(Refusal::bad("the key is not a P-256 key with an uncompressed point"));
    }
    if parsed.signature_algorithm.algorithm != OID_SIG_ECDSA_WITH_SHA256 {
        return Err(Refusal::bad("the signature algorithm is not ECDSA with SHA-256"));
    }
    parsed.verify_signature().map_err(|_| {
        Refusal::bad("the signature does not prove the possession of the private key")
    })?;
    let names = names(parsed)?;
    let [name] = names else {
        let why = match names.len() {
            0 => "the subject alternative name is empty",
            _ => "the request has more than one subject alternative name",
        };
        return Err(Refusal::bad(why));
    };
    match name {
        GeneralName::URI(text) | GeneralName::DNSName(text) if text.contains('*') => {
            Err(Refusal::bad("the subject alternative name has a wildcard"))
        }
        GeneralName::URI(_) | GeneralName::DNSName(_) => Ok(()),
        _ => Err(Refusal::bad("the subject alternative name is neither a URI nor a domain name")),
    }
}

/// Returns the subject alternative names, the only extension that a request may have.
fn names<'a>(parsed: &'a X509CertificationRequest<'_>) -> Result<&'a [GeneralName<'a>], Refusal> {
    let missing = || Refusal::bad("the request has no subject alternative name");
    let requested = match parsed.certification_request_info.attributes() {
        [] => return Err(missing()),
        [only] => only.parsed_attribute(),
        _ => return Err(Refusal::bad("the request has more than one attribute")),
    };
    let extensions = match requested {
        ParsedCriAttribute::ExtensionRequest(requested) => &requested.extensions,
        ParsedCriAttribute::ChallengePassword(_) => {
            return Err(Refusal::bad("the request has a challengePassword, which is not used"));
        }
        ParsedCriAttribute::UnsupportedAttribute => {
            return Err(Refusal::bad("the request has an attribute other than extensionRequest"));
        }
    };
    match extensions.as_slice() {
        [] => Err(missing()),
        [only] => match only.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(names) => Ok(&names.general_names),
            _ => Err(refused_extension(&only.oid.to_id_string())),
        },
        [first, second, ..] => {
            let is_names = first.parsed_extension().is_names();
            let other = if is_names { second } else { first };
            Err(refused_extension(&other.oid.to_id_string()))
        }
    }
}

fn refused_extension(oid: &str) -> Refusal {
    Refusal::bad(format!(
        "the request asks for the extension {oid}; only one subject alternative name may be requested"
    ))
}

trait IsNames {
    fn is_names(&self) -> bool;
}

impl IsNames for ParsedExtension<'_> {
    fn is_names(&self) -> bool {
        matches!(self, ParsedExtension::SubjectAlternativeName(_))
    }
}
