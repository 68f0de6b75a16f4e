//! `saegis check`: loads everything that a gateway or a MAF would load, without opening a port.

use std::path::Path;
use std::process::ExitCode;

use saegis_gateway::admin::status;
use saegis_gateway::backend::maf_store;
use saegis_gateway::backend::mef::MefBackend;
use saegis_gateway::config::{self, private_state};
use saegis_gateway::telemetry::warnings;
use saegis_policy::{Faults, Policy};

use crate::output::{BAD_INPUT, print, print_error};

/// Loads everything that a gateway or a MAF would load, and continues after a fault to find all
/// faults.
///
/// # Errors
/// Returns all faults.
pub async fn load_for_check(file: &Path) -> Result<Policy, Faults> {
    let config::Loaded { config, mut faults, policy_is_known } = config::Config::look_at(file);
    let Some(config) = config.filter(|_| policy_is_known) else { return Err(Faults(faults)) };
    if let Err(e) = saegis_handshake::psk::Server::new(&config.listen.suites) {
        faults.push(saegis_policy::Fault::of(file, e.to_string()));
    }
    if let Some(Err(Faults(found))) = config.role.maf().map(maf_store::check) {
        faults.extend(found);
    }
    if let Some(Err(Faults(found))) = config.role.mef().map(MefBackend::open) {
        faults.extend(found);
    }
    if let Err(Faults(found)) = private_state::inspect(&config) {
        faults.extend(found);
    }
    match Policy::open(config.policy_settings(None)).await {
        Ok(policy) => {
            let missing = config::check_means(&config.peer, &policy.current()).err();
            faults.extend(missing.map(|what| saegis_policy::Fault::of(file, what)));
            if faults.is_empty() { Ok(policy) } else { Err(Faults(faults)) }
        }
        Err(Faults(found)) => {
            faults.extend(found);
            Err(Faults(faults))
        }
    }
}

/// Checks everything that a gateway would load.
pub async fn check(file: &Path, json: bool) -> ExitCode {
    match load_for_check(file).await {
        Ok(policy) => {
            let generation = policy.current();
            if json {
                print(&serde_json::json!(status::report(&generation)).to_string());
            } else {
                let warnings = warnings::of(&generation);
                let and = match warnings.len() {
                    0 => String::new(),
                    1 => ", with a warning".into(),
                    several => format!(", with {several} warnings"),
                };
                print(&format!("{}: good{and}", saegis_policy::Shown(file)));
                saegis_policy::summary::policy(&generation)
                    .iter()
                    .skip(1)
                    .for_each(|line| print(line));
                warnings.iter().for_each(|warning| print(&format!("  warning     {warning}")));
            }
            ExitCode::SUCCESS
        }
        Err(faults) if json => {
            let faults = faults.0.iter().map(|f| {
                serde_json::json!({
                    "file": f.file.to_string_lossy(), "line": f.line, "column": f.column, "what": f.what,
                })
            });
            print(&serde_json::json!({ "faults": faults.collect::<Vec<_>>() }).to_string());
            ExitCode::from(BAD_INPUT)
        }
        Err(faults) => print_error(&faults.to_string(), BAD_INPUT),
    }
}
