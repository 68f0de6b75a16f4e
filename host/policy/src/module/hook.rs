//! Hooks of the contract.

use std::fmt;

/// A hook of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Hook {
    /// Finds the credential of a psk_identity.
    CredentialLookup,
    /// Checks the From of each request.
    ImpersonationCheck,
    /// Checks registrations of AEs.
    RegistrationCheck,
    /// Maps a certificate to an entity.
    CertificateMapping,
    /// Checks registrations of keys at a MAF.
    KeyRegistrationCheck,
}

impl Hook {
    /// All hooks.
    pub const ALL: [Self; 5] = [
        Self::CredentialLookup,
        Self::ImpersonationCheck,
        Self::RegistrationCheck,
        Self::CertificateMapping,
        Self::KeyRegistrationCheck,
    ];

    /// Returns its name, which is that of its interface in `wit/`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::CredentialLookup => "credential-lookup",
            Self::ImpersonationCheck => "impersonation-check",
            Self::RegistrationCheck => "registration-check",
            Self::CertificateMapping => "certificate-mapping",
            Self::KeyRegistrationCheck => "key-registration-check",
        }
    }

    /// Returns the name of its function.
    pub(crate) fn function(self) -> &'static str {
        match self {
            Self::CredentialLookup => "lookup",
            Self::CertificateMapping => "identify",
            Self::ImpersonationCheck | Self::RegistrationCheck | Self::KeyRegistrationCheck => {
                "check"
            }
        }
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
