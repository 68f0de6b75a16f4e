//! Configuration of a MAF, `maf.toml`, which is converted to the common form.

use saegis_onem2m::cse::{Cse, CseKind};
use saegis_onem2m::id::CseId;
use serde::Deserialize;

use super::maf::MafSettings;
use super::modules::Modules;
use super::oci_registry::Artifacts;
use super::sections::{Admin, Limits, Listen, Policy, ThisCse};
use super::server_config::{Config, Role};
use super::telemetry::{Audit, Decisions, Log, Metrics};

/// Configuration of a MAF, `maf.toml`. Paths are relative to its folder.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct MafConfig {
    /// Identity, store and limits of this MAF.
    maf: MafSettings,
    #[serde(default)]
    listen: Listen,
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
            maf,
            listen,
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
        // Value in the addresses of a MAF in place of a CSE-ID.
        #[expect(clippy::expect_used, reason = "the name is a constant")]
        let cse_id = CseId::parse(saegis_maf::names::BASE).expect("the name is a CSE-ID's");
        Config {
            cse: ThisCse::new(Cse {
                cse_id,
                csebase_name: "maf".into(),
                service_provider: maf.service_provider.clone(),
                kind: CseKind::In,
            }),
            listen,
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
