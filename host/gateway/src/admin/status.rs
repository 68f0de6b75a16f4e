//! What a gateway serves, in words and as JSON.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use saegis_onem2m::credential::KeyStrength;
use saegis_onem2m::timestamp;
use saegis_policy::{DiskState, Generation, Policy};
use serde_json::{Value, json};

use crate::config::Config;
use crate::notification::relay_address::RelayAddress;
use crate::state::Gateway;
use crate::telemetry::warnings;

/// What a running gateway prints.
pub fn serving(gateway: &Gateway, address: SocketAddr, monitor: Option<SocketAddr>) -> Vec<String> {
    let config = &gateway.config;
    let generation = gateway.policy.current();
    let behind = match (config.role.maf(), &config.upstream) {
        (Some(maf), _) => format!("the MAF {}, {}", maf.fqdn, saegis_policy::Shown(&maf.store)),
        (None, Some(upstream)) => format!("the CSE at {}", upstream.url),
        (None, None) => {
            format!("the embedded registrar, {}", saegis_policy::Shown(&config.registrar.store))
        }
    };
    let mut lines = vec![
        format!("saegis {}", env!("CARGO_PKG_VERSION")),
        format!("  CSE-ID      {}", config.cse.cse_id),
        format!("  TLS         {address}"),
        format!("  behind it   {behind}"),
    ];
    let relay = gateway.relay_address.get().map(RelayAddress::address);
    lines.extend(relay.map(|at| format!("  for AEs     http://{at}, from the CSE behind")));
    lines.extend(monitor.map(|at| format!("  metrics     http://{at}/metrics")));
    lines.extend(saegis_policy::summary::policy(&generation));
    lines
}

/// The content of a generation, for programs.
pub fn as_json(generation: &Generation) -> Value {
    let modules = generation.modules().into_iter().map(|m| {
        json!({
            "name": m.name,
            "replaces": m.replaces,
            "hooks": m.hooks.iter().map(|h| h.name()).collect::<Vec<_>>(),
            "capabilities": m.capabilities.iter().map(|c| c.name()).collect::<Vec<_>>(),
            "sha256": hex::encode(m.digest),
            "source": m.source,
            "signed_by": m.signed.map(|s| s.by.to_string()),
            "signed_at": m.signed.map(|s| timestamp::format(s.at)),
        })
    });
    let tables = generation.tables().into_iter().map(|t| {
        json!({
            "name": t.name,
            "rows": t.rows,
            "short_keys": t.short_keys,
            "exposed": t.exposed,
            "read_by": t.read_by,
        })
    });
    let shadows = generation.shadows().into_iter().map(|s| {
        json!({
            "name": s.name,
            "replaces": s.replaces,
            "hooks": s.hooks.iter().map(|h| h.name()).collect::<Vec<_>>(),
            "capabilities": s.capabilities.iter().map(|c| c.name()).collect::<Vec<_>>(),
            "sha256": hex::encode(s.digest),
            "agreed": s.agreed,
            "disagreed": s.disagreed,
            "not_compared": s.not_compared,
            "dropped": s.dropped,
            "faults": s.faults.iter().map(ToString::to_string).collect::<Vec<_>>(),
        })
    });
    let certificates = generation.certificates().map(|certificates| {
        let own = certificates.own.iter().map(
            |own| json!({ "names": own.names(), "until": timestamp::format(own.not_after()) }),
        );
        json!({
            "own": own.collect::<Vec<_>>(),
            "anchors": certificates.trust.anchors().len(),
            "pinned_keys": certificates.trust.pinned_keys(),
        })
    });
    let warnings = warnings::of(generation);
    let warnings: Vec<_> = warnings.iter().map(ToString::to_string).collect();
    json!({
        "warnings": warnings,
        "rules": generation.rules(),
        "certificates": certificates,
        "modules": modules.collect::<Vec<_>>(),
        "kept": generation.replaced(),
        "shadows": shadows.collect::<Vec<_>>(),
        "tables": tables.collect::<Vec<_>>(),
    })
}

/// How what is on disk stands to what is in force, for the operator.
pub fn on_disk(policy: &Policy) -> Vec<(&'static str, Value)> {
    let (state, faults) = match policy.disk_state() {
        DiskState::InForce => ("in force".into(), Vec::new()),
        DiskState::Loading { since } => {
            (format!("being loaded since {}", timestamp::format(since)), Vec::new())
        }
        DiskState::Refused { since, faults } => {
            let faults = faults.0.iter().map(ToString::to_string).collect();
            (format!("refused since {}", timestamp::format(since)), faults)
        }
    };
    let configuration = match policy.configuration_changed() {
        None => "in force".into(),
        Some(since) => {
            format!(
                "changed since the start, known since {}: counts from the next start",
                timestamp::format(since)
            )
        }
    };
    let warnings = warnings::of(&policy.current());
    let warnings: Vec<_> = warnings.iter().map(ToString::to_string).collect();
    vec![
        ("warnings", warnings.into()),
        ("policy", state.into()),
        ("policy_faults", faults.into()),
        ("configuration", configuration.into()),
    ]
}

/// Tells that the configuration on disk is another than at the start, or no other any longer.
pub fn tell_of_configuration(config: &Config, changed: bool) {
    let Some(file) = &config.file else { return };
    let file = saegis_policy::Shown(&file.path);
    if changed {
        tracing::warn!(
            event = "config.changed",
            %file,
            "{file} has changed since the start; it counts from the next start (saegis check says \
             whether it is good)"
        );
    } else {
        tracing::info!(
            event = "config.restored",
            %file,
            "{file} is what it was at the start again"
        );
    }
}

/// Warns of keys in the configuration that can be guessed, or read by every user of the machine.
pub fn warn_of_credentials(file: &Path, config: &Config) {
    let peers = config.peer.iter().map(|peer| (peer.cse_id.to_string(), &peer.credential));
    let mafs = config.maf.iter().map(|maf| (maf.fqdn.clone(), &maf.credential));
    let mut has_keys = false;
    for (whose, credential) in peers.chain(mafs) {
        let Some(credential) = credential else { continue };
        has_keys = true;
        if KeyStrength::of(credential.kpsa.expose(), 0) != Ok(KeyStrength::Good) {
            tracing::warn!(
                event = "config.weak-key",
                peer = whose,
                "the key that is shared with {whose} has less than 16 bytes, or a pattern, and can be \
                 guessed by whoever records a handshake"
            );
        }
    }
    let exposed = |meta: std::fs::Metadata| meta.permissions().mode() & 0o004 != 0;
    if has_keys && std::fs::metadata(file).is_ok_and(exposed) {
        tracing::warn!(
            event = "config.exposed",
            "every user of this machine can read the keys in {0}; take that right from them \
             (chmod o-r {0})",
            saegis_policy::Shown(file)
        );
    }
}
