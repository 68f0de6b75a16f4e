//! Certificates of operators, who open the web page from other machines. They do not stand for
//! entities of oneM2M, so the profile of TS-0003 does not apply to their names.

use std::fmt;
use std::str::FromStr;

use rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;

use crate::parsed::ParsedCertificate;
use crate::rejection::Rejection;
use crate::trust::AnchorError;

/// Maximum length of a name, in bytes.
const MAX_NAME: usize = 256;

/// A name in the certificate of an operator: a subject alternative name, or the common name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum OperatorName {
    /// An email address. Case matters.
    Email(String),
    /// A domain name, in lower case.
    Dns(String),
    /// A URI. Case matters.
    Uri(String),
    /// The common name of the subject. Case matters.
    CommonName(String),
}

/// The error for a text that is not a name of an operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a name in a certificate; write email:NAME, dns:NAME, uri:NAME or cn:NAME")]
pub struct OperatorNameError(String);

impl OperatorName {
    fn new(kind: &str, name: &str) -> Option<Self> {
        let is_plain =
            !name.is_empty() && name.len() <= MAX_NAME && !name.contains(char::is_control);
        let name = name.to_string();
        match kind {
            _ if !is_plain => None,
            "email" => Some(Self::Email(name)),
            "dns" => Some(Self::Dns(name.to_ascii_lowercase())),
            "uri" => Some(Self::Uri(name)),
            "cn" => Some(Self::CommonName(name)),
            _ => None,
        }
    }

    /// Returns the names in a certificate. The common name counts only if there is one.
    ///
    /// # Errors
    /// Returns an error if the certificate cannot be parsed.
    pub fn all_of(der: &CertificateDer<'_>) -> Result<Vec<Self>, Rejection> {
        let read = ParsedCertificate::new(der)?;
        let mut names: Vec<_> = read
            .names
            .iter()
            .filter_map(|name| match name {
                GeneralName::RFC822Name(name) => Self::new("email", name),
                GeneralName::DNSName(name) => Self::new("dns", name),
                GeneralName::URI(name) => Self::new("uri", name),
                _ => None,
            })
            .collect();
        let mut common = read.certificate.subject().iter_common_name();
        if let (Some(name), None) = (common.next(), common.next())
            && let Ok(name) = name.as_str()
        {
            names.extend(Self::new("cn", name));
        }
        Ok(names)
    }
}

impl FromStr for OperatorName {
    type Err = OperatorNameError;

    fn from_str(text: &str) -> Result<Self, OperatorNameError> {
        let parsed = text.split_once(':').and_then(|(kind, name)| Self::new(kind, name));
        parsed.ok_or_else(|| OperatorNameError(text.into()))
    }
}

impl fmt::Display for OperatorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Email(name) => write!(f, "email:{name}"),
            Self::Dns(name) => write!(f, "dns:{name}"),
            Self::Uri(name) => write!(f, "uri:{name}"),
            Self::CommonName(name) => write!(f, "cn:{name}"),
        }
    }
}

/// Checks that a certificate can be a trust anchor for operators.
///
/// # Errors
/// Returns an error if it cannot be parsed, or is not that of a certification authority.
pub fn check_operator_anchor(der: &CertificateDer<'_>) -> Result<(), AnchorError> {
    let read = ParsedCertificate::new(der).map_err(AnchorError::Unreadable)?;
    read.key_kind().map_err(AnchorError::Unreadable)?;
    if read.certificate.is_ca() { Ok(()) } else { Err(AnchorError::NoAuthority) }
}

#[cfg(test)]
mod tests {
    use saegis_test_ca::{Authority, Name, Request};

    use super::*;

    #[test]
    fn names_of_operators_are_parsed() {
        for text in ["email:Ann@x.example", "dns:ann.example", "uri:urn:a:b", "cn:Ann Other"] {
            assert_eq!(text.parse::<OperatorName>().unwrap().to_string(), text);
        }
        assert_eq!("dns:A.Example".parse(), Ok(OperatorName::Dns("a.example".into())));
        let long = format!("cn:{}", "a".repeat(MAX_NAME + 1));
        for text in ["", "ann", "cn:", "CN:ann", "mail:a@b", "cn:a\nb", &long] {
            assert!(text.parse::<OperatorName>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn names_are_found_in_certificates() {
        let authority = Authority::new(&Request::new("operators")).unwrap();
        let issued = authority
            .issue(&Request::new("Ann").name(Name::dns("A.example")).name(Name::uri("urn:a")))
            .unwrap();
        let names = OperatorName::all_of(&issued.chain()[0]).unwrap();
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["dns:a.example", "uri:urn:a", "cn:Ann"]);
        assert!(check_operator_anchor(authority.der()).is_ok());
        assert_eq!(check_operator_anchor(&issued.chain()[0]), Err(AnchorError::NoAuthority));
    }
}
