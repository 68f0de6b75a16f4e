//! Security Association Establishment Frameworks.

use std::fmt;

/// The Security Association Establishment Framework of an association (TS-0003 clause 8.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Saef {
    /// Provisioned symmetric key: TLS-PSK with a Kpsa (clause 8.2.2.1).
    ProvisionedSymmetricKey,
    /// Certificates or raw public keys on both sides (clause 8.2.2.2).
    Certificate,
    /// Key distributed by an M2M Authentication Function (clause 8.2.2.3).
    Maf,
}

impl fmt::Display for Saef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ProvisionedSymmetricKey => "psk",
            Self::Certificate => "certificate",
            Self::Maf => "maf",
        })
    }
}
