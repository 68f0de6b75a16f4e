//! A CSE, as configuration files describe it.

use serde::Deserialize;

use crate::id::CseId;
use crate::serde::parsed;

/// Which CSE this is.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Cse {
    /// The CSE-ID, with or without its slash.
    #[serde(deserialize_with = "parsed")]
    pub cse_id: CseId,
    /// The resource name of the CSEBase.
    #[serde(default = "csebase_name")]
    pub csebase_name: String,
    /// The domain name of the service provider, for absolute addresses.
    pub service_provider: Option<String>,
    /// What kind of CSE it is.
    #[serde(default)]
    pub kind: CseKind,
}

/// The kinds of CSE that a gateway can be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum CseKind {
    /// In the infrastructure domain.
    #[serde(rename = "IN-CSE")]
    In,
    /// In the field domain: a home gateway, say.
    #[default]
    #[serde(rename = "MN-CSE")]
    Mn,
}

impl CseKind {
    /// The number of m2m:cseTypeID.
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
