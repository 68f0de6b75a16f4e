//! The protocol of the administration socket: one request and one answer a connection, each a line of
//! JSON.

use serde::{Deserialize, Serialize};

/// What may be asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "command")]
pub enum Request {
    /// How the gateway is.
    Status,
    /// The live associations.
    Associations,
    /// The modules and tables of the generation in force.
    Modules,
    /// Read policy files and modules again.
    Reload {
        /// Policy files that are gone are so on purpose.
        #[serde(default)]
        accept_removals: bool,
    },
    /// The AE-IDs that credentials have got by registering.
    AeIds,
    /// Release the AE-ID that a credential has got.
    ReleaseAeId {
        /// The Credential-ID.
        credential_id: String,
    },
    /// Delete an AE with all that is its.
    DeleteAe {
        /// Its AE-ID-Stem.
        ae_id: String,
    },
    /// The other CSEs.
    Peers,
    /// End an association.
    EndAssociation {
        /// Its number.
        id: u64,
    },
}

impl Request {
    /// The command as the audit trail has it, if it changes something.
    pub fn change(&self) -> Option<String> {
        match self {
            Self::Status | Self::Associations | Self::Modules | Self::AeIds | Self::Peers => None,
            Self::Reload { accept_removals: false } => Some("reload".into()),
            Self::Reload { accept_removals: true } => Some("reload --accept-removals".into()),
            Self::ReleaseAeId { credential_id } => Some(format!("release-ae-id {credential_id}")),
            Self::EndAssociation { id } => Some(format!("end-association {id}")),
            Self::DeleteAe { ae_id } => Some(format!("delete-ae {ae_id}")),
        }
    }
}

/// Longest line either way, in bytes: the list of some ten thousand associations.
pub const MAX_LINE: u64 = 8 << 20;
