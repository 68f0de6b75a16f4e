//! The name that a certificate has: the only subject alternative name, which identifies an AE or a
//! CSE (TS-0003 clause 10.1).

use std::fmt;

use rcgen::{DistinguishedName, DnType, SanType};
use x509_parser::extensions::GeneralName;
use x509_parser::x509::X509Name;

/// Maximum length of a common name (RFC 5280, ub-common-name).
const MAX_COMMON_NAME: usize = 64;

/// The subject alternative name of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubjectName {
    /// Absolute AE-ID, in an AE-ID certificate.
    AeId(String),
    /// Public domain name, in a CSE-ID certificate.
    CseDomain(String),
}

impl SubjectName {
    /// Returns the name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::AeId(name) | Self::CseDomain(name) => name,
        }
    }

    /// Returns whether this is the name, exactly and with case.
    pub(crate) fn is(&self, name: &GeneralName<'_>) -> bool {
        match (self, name) {
            (Self::AeId(own), GeneralName::URI(uri)) => own == uri,
            (Self::CseDomain(own), GeneralName::DNSName(dns)) => own == dns,
            _ => false,
        }
    }

    pub(crate) fn to_san(&self) -> Result<SanType, rcgen::Error> {
        Ok(match self {
            Self::AeId(uri) => SanType::URI(uri.as_str().try_into()?),
            Self::CseDomain(name) => SanType::DnsName(name.as_str().try_into()?),
        })
    }

    /// Returns the subject of a certificate with this name, so that tools show it. The subject of a
    /// request is never copied: it could name somebody else. A name that is too long for a common
    /// name has an empty subject.
    pub(crate) fn to_subject(&self) -> DistinguishedName {
        let mut subject = DistinguishedName::new();
        if let Some(name) = self.common_name() {
            subject.push(DnType::CommonName, name);
        }
        subject
    }

    fn common_name(&self) -> Option<&str> {
        Some(self.as_str()).filter(|name| name.len() <= MAX_COMMON_NAME)
    }

    /// Returns whether this is the subject of a certificate with this name.
    pub(crate) fn is_subject(&self, subject: &X509Name<'_>) -> bool {
        let mut attributes = subject.iter().flat_map(|rdn| rdn.iter());
        match (self.common_name(), attributes.next(), attributes.next()) {
            (None, None, None) => true,
            (Some(name), Some(found), None) => {
                *found.attr_type() == x509_parser::oid_registry::OID_X509_COMMON_NAME
                    && found.as_str().is_ok_and(|found| found == name)
            }
            _ => false,
        }
    }
}

impl fmt::Display for SubjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
