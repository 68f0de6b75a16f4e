//! The configuration as a whole.

use std::path::PathBuf;

use saegis_policy::ConfigurationFile;
use serde::Deserialize;

use super::coap::Coap;
use super::maf::{MafPeer, MafSettings};
use super::mef::MefSettings;
use super::modules::Modules;
use super::mqtt::Mqtt;
use super::oci_registry::Artifacts;
use super::peer::Peer;
use super::proxy_protocol::ProxyProtocol;
use super::sections::{
    Admin, AeIds, Limits, Listen, Notifications, Policy, ServiceSubscription, ThisCse, Upstream,
};
use super::telemetry::{Audit, Decisions, Log, Metrics};
use super::websocket::WebSocket;

/// Configuration of a gateway. Paths are relative to the folder of the configuration file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// Folder of all files that the gateway writes. A path that starts with `state/` is in it. The
    /// default is `$STATE_DIRECTORY`, which systemd sets, or else `state` beside the configuration.
    pub state_folder: Option<PathBuf>,
    /// This CSE, and the embedded CSE.
    pub cse: ThisCse,
    /// Listener for associations.
    #[serde(default)]
    pub listen: Listen,
    /// Load balancers that name the client of each TCP connection with the PROXY protocol.
    #[serde(default)]
    pub proxy_protocol: ProxyProtocol,
    /// Folder of policy files, and how they are loaded.
    #[serde(default)]
    pub policy: Policy,
    /// Policy modules: their folders, limits and capabilities.
    #[serde(default)]
    pub modules: Modules,
    /// OCI registries for modules and policy files.
    #[serde(default)]
    pub artifacts: Artifacts,
    /// CSE behind the gateway, instead of the embedded CSE.
    pub upstream: Option<Upstream>,
    /// Other CSEs.
    #[serde(default)]
    pub peer: Vec<Peer>,
    /// MAFs whose keys this gateway accepts.
    #[serde(default)]
    pub maf_peer: Vec<MafPeer>,
    /// Whether this is a CSE, a MAF or a MEF.
    #[serde(skip)]
    pub role: Role,
    /// Notifications that the embedded CSE sends.
    #[serde(default)]
    pub notifications: Notifications,
    /// Source of the service subscription.
    #[serde(default)]
    pub service_subscription: ServiceSubscription,
    /// AE-IDs that credentials received by registering.
    #[serde(default)]
    pub ae_ids: AeIds,
    /// Administration of the running gateway.
    #[serde(default)]
    pub admin: Admin,
    /// Limits on connections, handshakes and requests.
    #[serde(default)]
    pub limits: Limits,
    /// The WebSocket binding.
    #[serde(default)]
    pub websocket: WebSocket,
    /// The MQTT binding.
    #[serde(default)]
    pub mqtt: Mqtt,
    /// The CoAP binding.
    #[serde(default)]
    pub coap: Coap,
    /// The log.
    #[serde(default)]
    pub log: Log,
    /// The audit trail.
    #[serde(default)]
    pub audit: Audit,
    /// Recorded decisions.
    #[serde(default)]
    pub decisions: Decisions,
    /// Metrics and health over HTTP.
    #[serde(default)]
    pub metrics: Metrics,
    /// The file of this configuration.
    #[serde(skip)]
    pub file: Option<ConfigurationFile>,
}

/// Role of this process.
#[derive(Default)]
pub enum Role {
    /// A gateway, which is a CSE.
    #[default]
    Cse,
    /// An M2M Authentication Function.
    Maf(MafSettings),
    /// An M2M Enrolment Function.
    Mef(MefSettings),
}

impl Role {
    /// Returns whether it is a CSE. A MAF and a MEF identify their clients by absolute identifiers.
    pub fn is_cse(&self) -> bool {
        matches!(self, Self::Cse)
    }

    /// Returns the configuration of the MAF, if it is one.
    pub fn maf(&self) -> Option<&MafSettings> {
        match self {
            Self::Cse | Self::Mef(_) => None,
            Self::Maf(maf) => Some(maf),
        }
    }

    /// Returns the configuration of the MEF, if it is one.
    pub fn mef(&self) -> Option<&MefSettings> {
        match self {
            Self::Cse | Self::Maf(_) => None,
            Self::Mef(mef) => Some(mef),
        }
    }

    /// Returns the paths in the configuration of the role, to resolve them.
    pub(super) fn paths_mut(&mut self) -> Vec<&mut PathBuf> {
        match self {
            Self::Cse => Vec::new(),
            Self::Maf(maf) => {
                std::iter::once(&mut maf.store).chain(maf.store_key_file.as_mut()).collect()
            }
            Self::Mef(mef) => mef.paths_mut().into(),
        }
    }
}
