//! Configuration of a MAF, `maf.toml`, which is converted to the common form.

use std::path::PathBuf;

use saegis_onem2m::cse::{Cse, CseKind};
use serde::Deserialize;

use super::maf::MafSettings;
use super::modules::Modules;
use super::oci_registry::Artifacts;
use super::proxy_protocol::ProxyProtocol;
use super::sections::{Admin, Limits, Listen, Policy, ThisCse};
use super::server_config::{Config, Role};
use super::telemetry::{Audit, Decisions, Log, Metrics};

/// Configuration of a MAF, `maf.toml`. Paths are relative to its folder.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct MafConfig {
    state_folder: Option<PathBuf>,
    /// Identity, store and limits of this MAF.
    maf: MafSettings,
    #[serde(default)]
    listen: Listen,
    #[serde(default)]
    proxy_protocol: ProxyProtocol,
    #[serde(default)]
    policy: Policy,
    #[serde(default)]
    modules: Modules,
    #[serde(default)]
    artifacts: Artifacts,
    #[serde(default)]
    admin: Admin,
    #[serde(default)]
    limits: Limits,
    #[serde(default)]
    log: Log,
    #[serde(default)]
    audit: Audit,
    #[serde(default)]
    decisions: Decisions,
    #[serde(default)]
    metrics: Metrics,
}

impl MafConfig {
    /// Converts it to the configuration of a gateway whose CSE is the MAF.
    pub fn into_config(self) -> Config {
        let Self {
            state_folder,
            maf,
            listen,
            proxy_protocol,
            policy,
            modules,
            artifacts,
            admin,
            limits,
            log,
            audit,
            decisions,
            metrics,
        } = self;
        Config {
            state_folder,
            cse: ThisCse::new(Cse {
                // In the addresses of a MAF, its base has the position of a CSE-ID.
                cse_id: maf.base.clone(),
                csebase_name: "maf".into(),
                service_provider: maf.service_provider.clone(),
                kind: CseKind::In,
            }),
            listen,
            proxy_protocol,
            policy,
            modules,
            artifacts,
            upstream: None,
            peer: Vec::new(),
            maf_peer: Vec::new(),
            role: Role::Maf(maf),
            websocket: Default::default(),
            mqtt: Default::default(),
            coap: Default::default(),
            notifications: Default::default(),
            service_subscription: Default::default(),
            ae_ids: Default::default(),
            admin,
            limits,
            log,
            audit,
            decisions,
            metrics,
            file: None,
        }
    }
}
