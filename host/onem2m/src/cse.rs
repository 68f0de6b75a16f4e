//! The identity of a CSE in configuration files.

use serde::Deserialize;

use crate::id::CseId;
use crate::serde::parsed;

/// Identity of the CSE.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Cse {
    /// CSE-ID, with or without the leading slash.
    #[serde(deserialize_with = "parsed")]
    pub cse_id: CseId,
    /// Resource name of the CSEBase.
    #[serde(default = "csebase_name")]
    pub csebase_name: String,
    /// Domain name of the service provider. Without it, absolute addresses are rejected.
    pub service_provider: Option<String>,
    /// Type of the CSE.
    #[serde(default)]
    pub kind: CseKind,
}

/// The types of CSE that a gateway can be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum CseKind {
    /// CSE in the infrastructure domain.
    #[serde(rename = "IN-CSE")]
    In,
    /// CSE in the field domain, such as a home gateway.
    #[default]
    #[serde(rename = "MN-CSE")]
    Mn,
}

impl CseKind {
    /// Returns the number of m2m:cseTypeID.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::In => 1,
            Self::Mn => 2,
        }
    }
}

fn csebase_name() -> String {
    "cse".into()
}
