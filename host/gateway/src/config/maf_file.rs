//! Configuration of a MAF, `maf.toml`, or of a MEF, `mef.toml`, which is converted to the common form.

use std::path::PathBuf;

use saegis_onem2m::cse::{Cse, CseKind};
use serde::Deserialize;

use super::maf::MafSettings;
use super::mef::MefSettings;
use super::modules::Modules;
use super::oci_registry::Artifacts;
use super::proxy_protocol::ProxyProtocol;
use super::sections::{Admin, Limits, Listen, Policy, ThisCse};
use super::server_config::{Config, Role};
use super::telemetry::{Audit, Decisions, Log, Metrics};

/// Configuration of a MAF, `maf.toml`, or of a MEF, `mef.toml`. Paths are relative to its folder.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct MafConfig {
    state_folder: Option<PathBuf>,
    /// Identity, store and limits of this MAF.
    maf: Option<MafSettings>,
    /// Identity and certification authority of this MEF.
    mef: Option<MefSettings>,
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
    /// Converts it to the configuration of a gateway whose CSE is the MAF or the MEF. Returns `None`
    /// if it has neither `[maf]` nor `[mef]`, or both.
    pub fn into_config(self) -> Option<Config> {
        let Self {
            state_folder,
            maf,
            mef,
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
        let (role, cse_id, csebase_name, service_provider) = match (maf, mef) {
            (Some(maf), None) => {
                let (base, provider) = (maf.base.clone(), maf.service_provider.clone());
                (Role::Maf(maf), base, "maf", provider)
            }
            (None, Some(mef)) => {
                let provider = Some(mef.service_provider.clone());
                (Role::Mef(mef), MefSettings::base(), "mef", provider)
            }
            (None, None) | (Some(_), Some(_)) => return None,
        };
        Some(Config {
            state_folder,
            cse: ThisCse::new(Cse {
                // In the addresses of a MAF, its base has the position of a CSE-ID.
                csebase_name: csebase_name.into(),
                cse_id,
                service_provider,
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
            role,
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
        })
    }
}
