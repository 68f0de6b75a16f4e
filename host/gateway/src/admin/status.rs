//! Summary of a gateway, as text and as JSON.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use saegis_certificate::OwnCertificate;
use saegis_onem2m::credential::KeyStrength;
use saegis_onem2m::timestamp;
use saegis_policy::{DiskState, Generation, Policy};

use super::protocol::{
    CertificateReport, GenerationReport, ModuleEntry, OwnCertificateEntry, ShadowDifference,
    ShadowEntry, TableEntry,
};
use crate::config::{Config, Role};
use crate::notification::relay_address::RelayAddress;
use crate::state::Gateway;
use crate::telemetry::warnings;

/// Bound addresses of a gateway.
pub struct Addresses {
    /// TLS listener.
    pub tls: SocketAddr,
    /// MQTT over TLS.
    pub mqtt: Option<SocketAddr>,
    /// CoAP over DTLS.
    pub coap: Option<SocketAddr>,
    /// Metrics.
    pub metrics: Option<SocketAddr>,
    /// Web page.
    pub page: Option<SocketAddr>,
    /// Web page for other machines.
    pub remote_page: Option<SocketAddr>,
}

/// Returns the lines that a gateway prints when it starts to serve.
pub fn serving(gateway: &Gateway, addresses: &Addresses) -> Vec<String> {
    let Addresses { tls: address, mqtt, coap, metrics, page, remote_page } = addresses;
    let config = &gateway.config;
    let generation = gateway.policy.current();
    let behind = match (&config.role, &config.upstream) {
        (Role::Maf(maf), _) => {
            format!("the MAF {}, {}", maf.fqdn, saegis_policy::Shown(&maf.store))
        }
        (Role::Mef(mef), _) => {
            let ca = saegis_policy::Shown(&mef.est.ca_certificate);
            format!("the MEF {}, certification authority {ca}", mef.fqdn)
        }
        (Role::Cse, Some(upstream)) => format!("the CSE at {}", upstream.url),
        (Role::Cse, None) => {
            format!("the embedded registrar, {}", saegis_policy::Shown(&config.cse.store))
        }
    };
    let mut lines = vec![
        format!("saegis {}", env!("CARGO_PKG_VERSION")),
        format!("  CSE-ID      {}", config.cse.cse_id),
        format!("  TLS         {address}"),
    ];
    lines.extend(mqtt.map(|at| format!("  MQTT        {at}, over TLS")));
    lines.extend(coap.map(|at| format!("  CoAP        {at}, over DTLS")));
    lines.push(format!("  backend     {behind}"));
    let relay = gateway.relay_address.get().map(RelayAddress::address);
    lines.extend(relay.map(|at| format!("  for AEs     http://{at}, from the CSE behind")));
    lines.extend(metrics.map(|at| format!("  metrics     http://{at}/metrics")));
    lines.extend(
        page.map(|at| format!("  web page    http://{at}; open it with saegis admin link")),
    );
    lines.extend(remote_page.map(|at| format!("  web page    https://{at}, with certificates")));
    lines.extend(saegis_policy::summary::policy(&generation));
    lines
}

/// Returns the content of a generation as JSON.
pub fn report(generation: &Generation) -> GenerationReport {
    let modules = generation.modules().into_iter().map(|m| ModuleEntry {
        name: m.name.to_string(),
        replaces: m.replaces.map(|name| name.to_string()),
        promoted: m.promoted,
        hooks: m.hooks.iter().map(|h| h.name().into()).collect(),
        capabilities: m.capabilities.iter().map(|c| c.name().into()).collect(),
        sha256: hex::encode(m.digest),
        source: m.source.map(|source| source.to_string()),
        signed_by: m.signed.map(|s| s.by.to_string()),
        signed_at: m.signed.map(|s| timestamp::format(s.at)),
        calls: Vec::new(),
        failures: Vec::new(),
    });
    let tables = generation.tables().into_iter().map(|t| TableEntry {
        name: t.name.to_string(),
        rows: t.rows,
        short_keys: t.short_keys,
        exposed: t.exposed,
        read_by: t.read_by.iter().map(ToString::to_string).collect(),
    });
    let shadows = generation.shadows().into_iter().map(|s| ShadowEntry {
        name: s.name.to_string(),
        replaces: s.replaces.map(|name| name.to_string()),
        hooks: s.hooks.iter().map(|h| h.name().into()).collect(),
        capabilities: s.capabilities.iter().map(|c| c.name().into()).collect(),
        sha256: hex::encode(s.digest),
        agreed: s.agreed,
        disagreed: s.disagreed,
        not_compared: s.not_compared,
        dropped: s.dropped,
        faults: s.faults.iter().map(ToString::to_string).collect(),
        differences: s.differences.into_iter().map(shadow_difference).collect(),
    });
    let certificates = generation.certificates().map(|certificates| CertificateReport {
        own: certificates.own.iter().map(|own| own_certificate(own)).collect(),
        anchors: certificates.trust.anchors().len(),
        pinned_keys: certificates.trust.pinned_keys(),
    });
    GenerationReport {
        generation: None,
        warnings: warnings::of(generation).iter().map(ToString::to_string).collect(),
        rules: generation.rules(),
        certificates,
        modules: modules.collect(),
        replaced: generation.replaced().iter().map(ToString::to_string).collect(),
        shadows: shadows.collect(),
        tables: tables.collect(),
    }
}

fn shadow_difference(of: saegis_policy::ShadowDifference) -> ShadowDifference {
    ShadowDifference {
        at: timestamp::format(of.at),
        hook: of.hook.name().into(),
        question: of.question,
        in_force: of.in_force,
        shadow: of.shadow,
    }
}

fn own_certificate(own: &OwnCertificate) -> OwnCertificateEntry {
    let names = own.names().iter().map(ToString::to_string).collect();
    OwnCertificateEntry { names, expires: timestamp::format(own.not_after()) }
}

/// Returns whether the policy on disk is in force, and its faults.
pub fn policy_on_disk(policy: &Policy) -> (String, Vec<String>) {
    match policy.disk_state() {
        DiskState::InForce => ("in force".into(), Vec::new()),
        DiskState::Loading { since } => {
            (format!("being loaded since {}", timestamp::format(since)), Vec::new())
        }
        DiskState::Refused { since, faults } => {
            let faults = faults.0.iter().map(ToString::to_string).collect();
            (format!("refused since {}", timestamp::format(since)), faults)
        }
    }
}

/// Returns whether the configuration on disk is in force.
pub fn configuration_on_disk(policy: &Policy) -> String {
    match policy.configuration_changed() {
        None => "in force".into(),
        Some(since) => format!(
            "changed since the start, detected at {}; restart the gateway to apply it",
            timestamp::format(since)
        ),
    }
}

/// Logs that the configuration on disk differs from that at the start, or no longer does.
pub fn log_configuration_change(config: &Config, changed: bool) {
    let Some(file) = &config.file else { return };
    let file = saegis_policy::Shown(&file.path);
    if changed {
        tracing::warn!(
            event = "config.changed",
            %file,
            "{file} has changed since the start; check it with saegis check, then restart the gateway \
             to apply it"
        );
    } else {
        tracing::info!(
            event = "config.restored",
            %file,
            "{file} is again the same as at the start"
        );
    }
}

/// Logs a warning for keys in the configuration that are easy to guess or that every user of the
/// machine can read.
pub fn warn_of_credentials(file: &Path, config: &Config) {
    let peers = config.peer.iter().map(|peer| (peer.cse_id.to_string(), &peer.credential));
    let mafs = config.maf_peer.iter().map(|maf| (maf.fqdn.clone(), &maf.credential));
    let mut has_keys = false;
    for (whose, credential) in peers.chain(mafs) {
        let Some(credential) = credential else { continue };
        has_keys = true;
        if KeyStrength::of(credential.kpsa.expose(), 0) != Ok(KeyStrength::Good) {
            tracing::warn!(
                event = "config.weak-key",
                peer = whose,
                "the key shared with {whose} has less than 16 bytes, or a pattern; it can be guessed from a \
                 recorded handshake"
            );
        }
    }
    let exposed = |meta: std::fs::Metadata| meta.permissions().mode() & 0o004 != 0;
    if has_keys && std::fs::metadata(file).is_ok_and(exposed) {
        tracing::warn!(
            event = "config.exposed",
            "every user of this machine can read the keys in {0}; remove that permission \
             (chmod o-r {0})",
            saegis_policy::Shown(file)
        );
    }
}
