//! The flavors of certificates (TS-0003 clause 10.1).

use std::fmt;
use std::str::FromStr;

/// A flavor of certificates (TS-0003 clause 10.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Flavour {
    /// AE-ID certificate: a URI equal to the absolute AE-ID.
    AeId,
    /// CSE-ID certificate: the public domain name of the CSE.
    CseId,
    /// Node-ID certificate: a URI that is the M2M-Node-ID.
    NodeId,
    /// Device certificate: a globally unique hardware identifier.
    Device,
    /// FQDN certificate of a MAF or MEF: a domain name.
    Fqdn,
    /// Raw public key (RFC 7250).
    RawPublicKey,
}

impl Flavour {
    /// The flavors that a trust anchor can issue.
    pub const OF_ANCHORS: [Self; 5] =
        [Self::AeId, Self::CseId, Self::NodeId, Self::Device, Self::Fqdn];

    /// Returns the name in configurations and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::AeId => "ae-id",
            Self::CseId => "cse-id",
            Self::NodeId => "node-id",
            Self::Device => "device",
            Self::Fqdn => "fqdn",
            Self::RawPublicKey => "raw-public-key",
        }
    }
}

impl fmt::Display for Flavour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Flavour {
    type Err = String;

    /// Parses the name of a flavor that a trust anchor can issue.
    fn from_str(text: &str) -> Result<Self, String> {
        Self::OF_ANCHORS.into_iter().find(|f| f.name() == text).ok_or_else(|| {
            let all = Self::OF_ANCHORS.map(Self::name).join(", ");
            format!("is not a flavor of certificates; supported: {all}")
        })
    }
}
