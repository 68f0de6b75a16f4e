//! `saegis`, a oneM2M security gateway: the command line.

mod admin;
mod ae;
mod audit;
mod certs;
mod decisions;
mod maf;
mod module;

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use saegis_gateway::admin::status;
use saegis_gateway::backend::maf_store;
use saegis_gateway::config::{self, private_state};
use saegis_gateway::telemetry::{decision_log, logging, warnings};
use saegis_gateway::{hardening, server};
use saegis_policy::{Faults, Policy};

/// What it says of its version.
const VERSION: &str = if cfg!(saegis_bench) {
    concat!(env!("CARGO_PKG_VERSION"), " without WASM, for benchmarks alone")
} else {
    env!("CARGO_PKG_VERSION")
};

/// What something wrong in a configuration, a policy file or a module ends with.
const BAD_INPUT: u8 = 2;

/// A oneM2M security gateway: establishes security associations (TS-0003) and lets sandboxed
/// policy modules decide who may connect and in whose name a request may speak.
#[derive(Parser)]
#[command(version = VERSION, propagate_version = true)]
struct Cli {
    /// Print for programs: JSON on standard output.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the gateway.
    Run(Gateway),
    /// Run an M2M Authentication Function (MAF).
    Maf(maf::Args),
    /// Check configuration, policy files and modules, without opening a port.
    Check(Gateway),
    #[command(flatten)]
    Admin(admin::Command),
    /// Be an AE: establish an association with a registrar and send it a request.
    Ae(ae::Args),
    /// Make certificates for a trial, and say what is in a file of certificates.
    Certs(certs::Args),
    /// Verify audit trails.
    Audit(audit::Args),
    /// Ask modules and policy files again what was recorded of a gateway's decisions.
    Decisions(decisions::Args),
    /// Write a policy module: start one, describe it, test and try it, roll it out.
    Module(module::Args),
    /// Print the version.
    Version,
}

#[derive(clap::Args)]
struct Gateway {
    /// The gateway's configuration, or to check one a MAF's.
    #[arg(long, default_value = "saegis.toml")]
    config: PathBuf,
}

fn main() -> ExitCode {
    // Where OpenSSL does not take it, it has the one of the C library.
    let _ = saegis_allocator::serve_openssl();
    let cli = Cli::parse();
    // These write for other users too, and set the mode of what is secret themselves.
    if !matches!(cli.command, Command::Certs(_) | Command::Module(_)) {
        hardening::make_new_files_private();
    }
    if let Err(e) = hardening::forbid_dumps() {
        return complain(&format!("core dumps cannot be forbidden: {e}"), 1);
    }
    hardening::raise_locked_memory_limit();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return complain(&format!("no threads: {e}"), 1),
    };
    let code = match cli.command {
        Command::Run(gateway) => match config::Config::load(&gateway.config) {
            Err(faults) => complain(&faults.to_string(), BAD_INPUT),
            Ok(config) if config.role.is_maf() => {
                complain("this is the configuration of a MAF; it runs as saegis maf", BAD_INPUT)
            }
            Ok(config) => serve(&runtime, &gateway.config, config),
        },
        Command::Maf(args) => match config::Config::load(&args.config) {
            Err(faults) => complain(&faults.to_string(), BAD_INPUT),
            Ok(config) => match (&args.reencrypt, config.role.maf()) {
                (_, None) => complain("this is no MAF's configuration: it has no [maf]", BAD_INPUT),
                (Some(new), Some(authority)) => match maf_store::reencrypt(authority, new) {
                    Ok(()) => {
                        print("the store has the new key; configure it before the next start");
                        ExitCode::SUCCESS
                    }
                    Err(faults) => complain(&faults.to_string(), BAD_INPUT),
                },
                (None, Some(_)) => serve(&runtime, &args.config, config),
            },
        },
        Command::Check(gateway) => runtime.block_on(check(&gateway.config, cli.json)),
        Command::Ae(args) => match runtime.block_on(ae::run(args, cli.json)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(e) => complain(&e.to_string(), e.exit_code()),
        },
        Command::Certs(args) => match runtime.block_on(certs::run(args, cli.json)) {
            Ok(code) => ExitCode::from(code),
            Err(e) => complain(&e.to_string(), BAD_INPUT),
        },
        Command::Audit(args) => match audit::run(args, cli.json) {
            Ok(code) => ExitCode::from(code),
            Err(faults) => complain(&faults.to_string(), BAD_INPUT),
        },
        Command::Decisions(args) => match runtime.block_on(decisions::run(args, cli.json)) {
            Ok(code) => ExitCode::from(code),
            Err(faults) => complain(&faults.to_string(), BAD_INPUT),
        },
        Command::Module(args) => match runtime.block_on(module::run(args, cli.json)) {
            Ok(code) => ExitCode::from(code),
            Err(e) => complain(&e.to_string(), BAD_INPUT),
        },
        Command::Admin(command) => match admin::run(command, cli.json) {
            Ok(()) => ExitCode::SUCCESS,
            Err(e) => complain(&e.to_string(), e.exit_code()),
        },
        Command::Version => {
            if cli.json {
                print(&serde_json::json!({ "version": VERSION }).to_string());
            } else {
                print(&format!("saegis {VERSION}"));
            }
            ExitCode::SUCCESS
        }
    };
    // Nothing that is still under way after the drain may keep the process.
    runtime.shutdown_background();
    code
}

/// Runs a gateway, or a MAF, to its end.
fn serve(runtime: &tokio::runtime::Runtime, file: &Path, config: config::Config) -> ExitCode {
    // Before the first file is opened, the audit trail.
    let exposed = match private_state::make_private(file, &config) {
        Ok(exposed) => exposed,
        Err(faults) => return complain(&faults.to_string(), BAD_INPUT),
    };
    let started = logging::start(&config.log, &config.audit)
        .and_then(|logging| Ok((logging, decision_log::start(&config.decisions)?)));
    match started {
        Err(faults) => complain(&faults.to_string(), BAD_INPUT),
        Ok(((_logging, written), recording)) => {
            private_state::log(&exposed);
            if cfg!(saegis_bench) {
                tracing::warn!(
                    event = "gateway.without-wasm",
                    "this build makes decisions without sandboxes: for benchmarks, not for use"
                );
            }
            let file = file.to_owned();
            // On one of the runtime's own threads: from this one each connection that is accepted
            // would first have to wake another.
            let running = runtime.spawn(async move {
                server::run(&file, config, written, recording.as_ref()).await
            });
            match runtime.block_on(running) {
                Ok(Ok(())) => ExitCode::SUCCESS,
                Ok(Err(faults)) => complain(&faults.to_string(), BAD_INPUT),
                Err(e) => complain(&format!("the gateway failed: {e}"), 1),
            }
        }
    }
}

/// Loads all that a gateway would load, or a MAF, and goes on behind what is wrong, to find the rest of it.
async fn look(file: &Path) -> Result<Policy, Faults> {
    let config::Loaded { config, mut faults, policy_is_known } = config::Config::look_at(file);
    let Some(config) = config.filter(|_| policy_is_known) else { return Err(Faults(faults)) };
    if let Err(e) = saegis_handshake::psk::Server::new(&config.listen.suites) {
        faults.push(saegis_policy::Fault::of(file, e.to_string()));
    }
    if let Some(Err(Faults(found))) = config.role.maf().map(maf_store::check) {
        faults.extend(found);
    }
    if let Err(Faults(found)) = private_state::inspect(file, &config) {
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

/// Checks all that a gateway would load.
async fn check(file: &Path, json: bool) -> ExitCode {
    match look(file).await {
        Ok(policy) => {
            let generation = policy.current();
            if json {
                print(&status::as_json(&generation).to_string());
            } else {
                let warnings = warnings::of(&generation);
                let and = match warnings.len() {
                    0 => String::new(),
                    1 => ", with a warning".into(),
                    several => format!(", with {several} warnings"),
                };
                print(&format!("{}: good{and}", saegis_policy::Shown(file)));
                status::policy(&generation).iter().skip(1).for_each(|line| print(line));
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
        Err(faults) => complain(&faults.to_string(), BAD_INPUT),
    }
}

/// Writes a line to standard output; that nobody reads it is no fault of ours.
fn print(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn complain(what: &str, code: u8) -> ExitCode {
    let mut stderr = std::io::stderr();
    let (on, off) = if stderr.is_terminal() { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") };
    for line in what.lines() {
        let _ = writeln!(stderr, "{on}error:{off} {line}");
    }
    ExitCode::from(code)
}
