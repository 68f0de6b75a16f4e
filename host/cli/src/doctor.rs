//! `saegis doctor`: checks the machine, the configuration and the policy of a gateway.

use std::net::{TcpListener, TcpStream, ToSocketAddrs as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::process::{Resource, getrlimit};
use saegis_gateway::config::{Config, private_state};
use saegis_gateway::telemetry::warnings;
use saegis_policy::{Faults, Shown};
use serde_json::json;

use crate::output::print;

/// Arguments of `saegis doctor`.
#[derive(clap::Args)]
pub struct Args {
    /// Configuration of the gateway
    #[arg(long, default_value = "saegis.toml")]
    config: PathBuf,
}

/// Exit code if a check has failed.
const FAILED: u8 = 1;
/// Timeout for a connection to another CSE.
const CONNECT: Duration = Duration::from_secs(3);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Good,
    Warning,
    Failed,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Warning => "warning",
            Self::Failed => "failed",
        }
    }
}

/// The results of all checks.
#[derive(Default)]
struct Results(Vec<(Level, &'static str, String)>);

impl Results {
    fn add(&mut self, level: Level, check: &'static str, text: impl Into<String>) {
        self.0.push((level, check, text.into()));
    }

    fn faults(&mut self, check: &'static str, Faults(faults): &Faults) {
        for fault in faults {
            self.add(Level::Failed, check, fault.to_string());
        }
    }
}

/// Performs all checks. Returns the exit code.
pub async fn run(args: &Args, as_json: bool) -> u8 {
    let mut results = Results::default();
    let loaded = Config::look_at(&args.config);
    if loaded.faults.is_empty() {
        let file = Shown(&args.config).to_string();
        results.add(Level::Good, "configuration", file);
    }
    results.faults("configuration", &Faults(loaded.faults));
    if let Some(config) = &loaded.config {
        let is_running = UnixStream::connect(&config.admin.socket).is_ok();
        permissions(config, &mut results);
        clock(config, &mut results);
        limits(config, &mut results);
        ports(config, is_running, &mut results);
        if loaded.policy_is_known {
            policy(config, &mut results).await;
        }
        behind(config, &mut results);
        service(config, is_running, &mut results);
    }
    let count = |level| results.0.iter().filter(|(found, _, _)| *found == level).count();
    let (failed, warnings) = (count(Level::Failed), count(Level::Warning));
    if as_json {
        let checks = results.0.iter().map(
            |(level, check, text)| json!({ "level": level.name(), "check": check, "text": text }),
        );
        let checks: Vec<_> = checks.collect();
        print(&json!({ "failed": failed, "warnings": warnings, "checks": checks }).to_string());
    } else {
        for (level, check, text) in &results.0 {
            print(&format!("{:8} {check:14} {text}", level.name()));
        }
        print(&format!("{failed} failed, {warnings} warnings"));
    }
    if failed > 0 { FAILED } else { 0 }
}

fn permissions(config: &Config, results: &mut Results) {
    const CHECK: &str = "permissions";
    match private_state::inspect(config) {
        Err(faults) => results.faults(CHECK, &faults),
        Ok(exposed) if exposed.is_empty() => {
            results.add(Level::Good, CHECK, "written files are private");
        }
        Ok(exposed) => {
            let what = "written files that others can read; the next start removes that permission";
            results.add(Level::Warning, CHECK, format!("{} {what}", exposed.len()));
        }
    }
    let state = config.state_folder.clone().unwrap_or_default();
    let existing = state.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
    match rustix::fs::statvfs(existing) {
        Ok(disk) => {
            let free = disk.f_bavail.saturating_mul(disk.f_frsize) >> 20;
            let level = if free < 100 { Level::Warning } else { Level::Good };
            results.add(level, "disk", format!("{free} MiB free for {}", Shown(&state)));
        }
        Err(e) => results.add(Level::Warning, "disk", format!("{}: {e}", Shown(existing))),
    }
}

/// Compares the clock with the newest file that the gateway has written. A machine without a battery
/// for its clock starts in the past, where certificates are not valid yet.
fn clock(config: &Config, results: &mut Results) {
    const CHECK: &str = "clock";
    let now = SystemTime::now();
    let state = config.state_folder.clone().unwrap_or_default();
    let entries = std::fs::read_dir(state).into_iter().flatten().flatten();
    let newest = entries.filter_map(|entry| entry.metadata().ok()?.modified().ok()).max();
    let year = SystemTime::UNIX_EPOCH + Duration::from_secs(56 * 365 * 24 * 3600);
    let time = saegis_onem2m::timestamp::format(now);
    if newest.is_some_and(|newest| newest > now + Duration::from_secs(60)) || now < year {
        let what = "is in the past: set the clock, because expiry of credentials depends on it";
        results.add(Level::Failed, CHECK, format!("{time} {what}"));
    } else {
        results.add(Level::Good, CHECK, time);
    }
}

fn limits(config: &Config, results: &mut Results) {
    const CHECK: &str = "limits";
    let wanted = (config.limits.connections + config.limits.handshakes) as u64 * 2 + 256;
    match getrlimit(Resource::Nofile).maximum {
        Some(files) if files < wanted => {
            let what = format!(
                "{files} file descriptors at most, and limits.connections may need {wanted}; raise \
                 LimitNOFILE, or lower limits.connections"
            );
            results.add(Level::Warning, CHECK, what);
        }
        files => {
            let files = files.map_or("no limit on".into(), |files| files.to_string());
            results.add(Level::Good, CHECK, format!("{files} file descriptors"));
        }
    }
    let tables = std::fs::read_dir(&config.policy.folder).into_iter().flatten().flatten();
    let tables = tables.filter(|entry| entry.path().extension().is_some_and(|end| end == "csv"));
    let bytes: u64 = tables.filter_map(|entry| Some(entry.metadata().ok()?.len())).sum();
    match getrlimit(Resource::Memlock).maximum {
        Some(locked) if locked < 2 * bytes => {
            let what = format!(
                "{locked} bytes of locked memory, and the tables need {}; raise LimitMEMLOCK, or keys \
                 may be swapped out",
                2 * bytes
            );
            results.add(Level::Warning, CHECK, what);
        }
        _ => results.add(Level::Good, CHECK, "the tables fit in locked memory"),
    }
}

fn ports(config: &Config, is_running: bool, results: &mut Results) {
    const CHECK: &str = "ports";
    if is_running {
        return results.add(Level::Good, CHECK, "the gateway is running");
    }
    let metrics = config.metrics.address.as_ref().map(|address| ("metrics.address", address));
    for (option, address) in [("listen.address", &config.listen.address)].into_iter().chain(metrics)
    {
        let text = address.to_string();
        let bound = match text.strip_prefix(':') {
            Some(port) => TcpListener::bind(format!("[::]:{port}")),
            None => TcpListener::bind(&text),
        };
        match bound {
            Ok(_) => results.add(Level::Good, CHECK, format!("{option} {text} is free")),
            Err(e) => {
                let what = format!("{option} {text} cannot be bound: {e}");
                results.add(Level::Failed, CHECK, what);
            }
        }
    }
}

async fn policy(config: &Config, results: &mut Results) {
    const CHECK: &str = "policy";
    match saegis_policy::Policy::open(config.policy_settings(None)).await {
        Err(faults) => results.faults(CHECK, &faults),
        Ok(policy) => {
            let generation = policy.current();
            let what = saegis_policy::summary::contents(&generation);
            results.add(Level::Good, CHECK, what);
            for warning in warnings::of(&generation) {
                results.add(Level::Warning, CHECK, warning.to_string());
            }
        }
    }
}

/// Connects to the CSE behind the gateway, and to other CSEs.
fn behind(config: &Config, results: &mut Results) {
    let upstream = config.upstream.as_ref().and_then(|cse| {
        let default = if cse.url.scheme_str() == Some("mqtt") { 1883 } else { 80 };
        let port = cse.url.port_u16().unwrap_or(default);
        Some(("upstream.url", format!("{}:{port}", cse.url.host()?)))
    });
    let peers = config.peer.iter().filter(|peer| !peer.address.starts_with("coaps://"));
    let peers = peers.map(|peer| ("peer.address", peer.address.clone()));
    for (option, address) in upstream.into_iter().chain(peers) {
        let connected = address.to_socket_addrs().map_err(|e| e.to_string()).and_then(|mut all| {
            let first = all.next().ok_or("has no address")?;
            TcpStream::connect_timeout(&first, CONNECT).map_err(|e| e.to_string())
        });
        match connected {
            Ok(_) => results.add(Level::Good, "other CSEs", format!("{option} {address} answers")),
            Err(e) => {
                let what =
                    format!("{option} {address}: {e}; start that CSE, or correct the address");
                results.add(Level::Failed, "other CSEs", what);
            }
        }
    }
}

/// Checks what the service manager provides.
fn service(config: &Config, is_running: bool, results: &mut Results) {
    const CHECK: &str = "service";
    let unit = Path::new("/etc/systemd/system/saegis.service");
    let unit = [unit, Path::new("/usr/lib/systemd/system/saegis.service")];
    if let Some(unit) = unit.into_iter().find(|unit| unit.exists()) {
        let text = std::fs::read_to_string(unit).unwrap_or_default();
        let state = config.state_folder.clone().unwrap_or_default();
        if !text.contains("StateDirectory=") && !state.is_absolute() {
            let what = "has no StateDirectory=, and state-folder is not absolute";
            results.add(Level::Warning, CHECK, format!("{} {what}", Shown(unit)));
        } else {
            results.add(Level::Good, CHECK, Shown(unit).to_string());
        }
    }
    if !is_running {
        let socket = Shown(&config.admin.socket);
        results.add(
            Level::Warning,
            CHECK,
            format!("no gateway answers at {socket}; it is not running"),
        );
    }
}
