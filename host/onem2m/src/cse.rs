//! Identity of a CSE.

use serde::Deserialize;

use crate::id::CseId;

/// Identity of a CSE.
#[derive(Debug, Clone)]
pub struct Cse {
    /// CSE-ID.
    pub cse_id: CseId,
    /// Resource name of the CSEBase.
    pub csebase_name: String,
    /// Domain name of the service provider. Without it, absolute addresses are rejected.
    pub service_provider: Option<String>,
    /// Type of the CSE.
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
