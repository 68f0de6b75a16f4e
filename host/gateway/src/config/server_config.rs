//! The configuration as a whole.

use saegis_onem2m::cse::Cse;
use saegis_policy::ConfigurationFile;
use serde::Deserialize;

use super::maf::{MafPeer, MafSettings};
use super::modules::Modules;
use super::oci_registry::Artifacts;
use super::peer::Peer;
use super::sections::{
    Admin, AeIds, Audit, Decisions, Limits, Listen, Log, Metrics, Notifications, Policy, Registrar,
    ServiceSubscription, Upstream,
};
use super::websocket::WebSocket;

/// The configuration of a gateway. Paths in it are relative to its own folder.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// Which CSE this is.
    pub cse: Cse,
    /// Where associations are taken.
    #[serde(default)]
    pub listen: Listen,
    /// Where policy files are.
    #[serde(default)]
    pub policy: Policy,
    /// Where modules are and what they may do.
    #[serde(default)]
    pub modules: Modules,
    /// Registries that modules and policy files may come from.
    #[serde(default)]
    pub artifacts: Artifacts,
    /// The CSE behind the gateway, if it is not the embedded one.
    pub upstream: Option<Upstream>,
    /// Other CSEs that this one goes to.
    #[serde(default)]
    pub peer: Vec<Peer>,
    /// MAFs whose keys are taken.
    #[serde(default)]
    pub maf_peer: Vec<MafPeer>,
    /// Whether this is a CSE or a MAF.
    #[serde(skip)]
    pub role: Role,
    /// The embedded registrar.
    #[serde(default)]
    pub registrar: Registrar,
    /// Where the embedded registrar sends notifications.
    #[serde(default)]
    pub notifications: Notifications,
    /// Where the service subscription is.
    #[serde(default)]
    pub service_subscription: ServiceSubscription,
    /// The AE-IDs that credentials get by registering.
    #[serde(default)]
    pub ae_ids: AeIds,
    /// Administration.
    #[serde(default)]
    pub admin: Admin,
    /// Limits.
    #[serde(default)]
    pub limits: Limits,
    /// The WebSocket binding.
    #[serde(default)]
    pub websocket: WebSocket,
    /// The log.
    #[serde(default)]
    pub log: Log,
    /// The audit trail.
    #[serde(default)]
    pub audit: Audit,
    /// Recorded decisions.
    #[serde(default)]
    pub decisions: Decisions,
    /// Metrics and health.
    #[serde(default)]
    pub metrics: Metrics,
    /// The file that this was read from.
    #[serde(skip)]
    pub file: Option<ConfigurationFile>,
}

/// What this process is.
#[derive(Default)]
pub enum Role {
    /// A gateway, which is a CSE.
    #[default]
    Cse,
    /// An M2M Authentication Function.
    Maf(MafSettings),
}

impl Role {
    /// Whether it is a MAF.
    pub fn is_maf(&self) -> bool {
        self.maf().is_some()
    }

    /// The same, to change it.
    pub fn maf_mut(&mut self) -> Option<&mut MafSettings> {
        match self {
            Self::Cse => None,
            Self::Maf(maf) => Some(maf),
        }
    }

    /// The configuration of the MAF, where it is one.
    pub fn maf(&self) -> Option<&MafSettings> {
        match self {
            Self::Cse => None,
            Self::Maf(maf) => Some(maf),
        }
    }
}
