//! `saegis`, a oneM2M security gateway: the command line.
//!
//! Each subcommand has a module. A module parses its arguments with clap, calls the library crates and
//! returns a result. This file maps the result to the exit code of the process.
//!
//! Exit codes: 0 for success, 2 for invalid input (configuration, policy files, modules). Further codes
//! belong to a subcommand and are documented there.

mod admin;
mod ae;
mod audit;
mod backup;
mod certs;
mod check;
mod completions;
mod config;
mod cse;
mod decisions;
mod device;
mod doctor;
mod explain;
mod init;
mod maf;
mod mef;
mod module;
mod output;
mod table;
mod tail;
mod token;
#[cfg(feature = "top")]
mod top;
mod trail;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use saegis_gateway::backend::maf_store;
use saegis_gateway::config::private_state;
use saegis_gateway::telemetry::{decision_log, logging};
use saegis_gateway::{hardening, server};
use tokio::runtime::{self, Runtime};

use crate::output::{BAD_INPUT, Color, Form, is_colored, print, print_error, set_form};

/// Version, as printed by `saegis version`.
const VERSION: &str = if cfg!(saegis_bench) {
    concat!(env!("CARGO_PKG_VERSION"), " without WASM, for benchmarks only")
} else {
    env!("CARGO_PKG_VERSION")
};

/// Examples in the help.
const EXAMPLES: &str = "Examples:
  saegis init --demo demo                         a gateway with one device
  saegis device add light2 --format python        a device, and its program
  saegis explain --identity light2                why it cannot connect
  saegis tail --event handshake                   handshakes, as they happen";

/// A oneM2M security gateway: establishes security associations (TS-0003). Sandboxed policy modules
/// decide who may connect and which originator a request may use.
#[derive(Parser)]
#[command(version = VERSION, after_help = EXAMPLES)]
struct Cli {
    /// Print JSON on standard output
    #[arg(long, global = true)]
    json: bool,
    /// When to use colors
    #[arg(long, global = true, value_enum, default_value_t)]
    color: Color,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write the configuration, policy files and modules of a new gateway
    Init(init::Args),
    /// Add, list and remove devices with pre-shared keys
    Device(device::Args),
    /// Run the gateway
    Run(Gateway),
    /// Run an M2M Authentication Function (MAF)
    Maf(maf::Args),
    /// Run an M2M Enrolment Function (MEF), which issues certificates (RFC 7030)
    Mef(mef::Args),
    /// Check the configuration, policy files and modules without opening a port
    Check(Gateway),
    /// Check the machine, the configuration and the policy, and name what to change
    Doctor(doctor::Args),
    /// Explain why a device could not connect, or why a request was refused
    Explain(explain::Args),
    /// Print events of the audit trail, and follow it
    Tail(tail::Args),
    /// Watch associations, requests, refusals and decisions of the running gateway
    #[cfg(feature = "top")]
    Top(top::Args),
    #[command(flatten)]
    Admin(admin::Command),
    /// Act as an AE: establish an association with a registrar and send a request
    Ae(ae::Args),
    /// Create certificates for a trial, and inspect certificate files
    Certs(certs::Args),
    /// Verify audit trails
    Audit(audit::Args),
    /// Inspect the resources of the embedded CSE while the gateway does not run
    Cse(cse::Args),
    /// Replay recorded decisions of a gateway
    Decisions(decisions::Args),
    /// Issue, show and revoke tokens, which permit requests for a limited time
    Token(token::Args),
    /// Develop policy modules: create, inspect, test, try and roll out
    Module(module::Args),
    /// Write configuration, policy and state to an archive, while the gateway runs
    Backup(backup::Backup),
    /// Restore an archive of `saegis backup`; the gateway must not run
    Restore(backup::Restore),
    /// Print the configuration in effect, and JSON Schemas for editors
    Config(config::Args),
    /// Print completions for a shell
    Completions(completions::Completions),
    /// Write manual pages
    Man(completions::Man),
    /// Print the version
    Version,
}

#[derive(clap::Args)]
struct Gateway {
    /// Configuration of the gateway; `saegis check` also accepts that of a MAF or a MEF
    #[arg(long, default_value = "saegis.toml")]
    config: PathBuf,
}

fn main() -> ExitCode {
    saegis_allocator::use_small_pages();
    saegis_allocator::return_large_blocks();
    // If OpenSSL refuses the functions, it uses the allocator of the C library.
    let _ = saegis_allocator::serve_openssl();
    let cli = Cli::parse();
    set_form(Form { json: cli.json, color: cli.color });
    // These commands write files for other users too, and set the mode of secret files themselves.
    if !matches!(cli.command, Command::Certs(_) | Command::Module(_) | Command::Man(_)) {
        hardening::make_new_files_private();
    }
    if let Err(e) = hardening::forbid_dumps() {
        return print_error(&format!("cannot disable core dumps: {e}"), 1);
    }
    hardening::raise_locked_memory_limit();
    let runtime = match runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return print_error(&format!("cannot start the runtime: {e}"), 1),
    };
    let code = carry_out(cli.command, cli.json, &runtime);
    // A task that is still running after the drain must not delay the exit.
    runtime.shutdown_background();
    code
}

/// Runs a command, and returns the exit code of the process.
fn carry_out(command: Command, as_json: bool, runtime: &Runtime) -> ExitCode {
    match command {
        Command::Run(gateway) => match saegis_gateway::config::Config::load_to_run(&gateway.config)
        {
            Err(faults) => print_error(&faults.to_string(), BAD_INPUT),
            Ok(config) if config.role.maf().is_some() => {
                print_error("this is the configuration of a MAF; run it with saegis maf", BAD_INPUT)
            }
            Ok(config) if config.role.mef().is_some() => {
                print_error("this is the configuration of a MEF; run it with saegis mef", BAD_INPUT)
            }
            Ok(config) => serve(runtime, &gateway.config, config),
        },
        Command::Maf(args) => run_maf(&args, runtime),
        Command::Mef(args) => run_mef(&args, runtime),
        Command::Check(gateway) => runtime.block_on(check::check(&gateway.config, as_json)),
        Command::Ae(args) => match runtime.block_on(ae::run(args, as_json)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(e) => print_error(&e.to_string(), e.exit_code()),
        },
        Command::Admin(command) => match admin::run(command, as_json) {
            Ok(()) => ExitCode::SUCCESS,
            Err(e) => print_error(&e.to_string(), e.exit_code()),
        },
        Command::Init(args) => exit_code(runtime.block_on(init::run(args, as_json))),
        Command::Device(args) => match device::run(args, as_json) {
            Ok(()) => ExitCode::SUCCESS,
            Err(e) => print_error(&e.to_string(), device::exit_code(&e)),
        },
        Command::Doctor(args) => ExitCode::from(runtime.block_on(doctor::run(&args, as_json))),
        Command::Explain(args) => exit_code(explain::run(&args, as_json)),
        Command::Tail(args) => exit_code(tail::run(&args, as_json)),
        #[cfg(feature = "top")]
        Command::Top(args) => match top::run(&args, as_json) {
            Ok(()) => ExitCode::SUCCESS,
            Err(e) => print_error(&e.to_string(), e.exit_code()),
        },
        Command::Backup(args) => exit_code(backup::backup(&args, as_json)),
        Command::Restore(args) => exit_code(backup::restore(&args, as_json)),
        Command::Config(args) => exit_code(config::run(&args, as_json)),
        Command::Completions(args) => exit_code(completions::completions(&args, Cli::command())),
        Command::Man(args) => exit_code(completions::man(&args, Cli::command())),
        Command::Certs(args) => exit_code(runtime.block_on(certs::run(args, as_json))),
        Command::Audit(args) => exit_code(audit::run(args, as_json)),
        Command::Cse(args) => exit_code(cse::run(args, as_json)),
        Command::Decisions(args) => exit_code(runtime.block_on(decisions::run(args, as_json))),
        Command::Token(args) => match token::run(args, as_json) {
            Ok(()) => ExitCode::SUCCESS,
            Err(e) => print_error(&e.to_string(), e.exit_code()),
        },
        Command::Module(args) => exit_code(runtime.block_on(module::run(args, as_json))),
        Command::Version => {
            if as_json {
                print(&serde_json::json!({ "version": VERSION }).to_string());
            } else {
                print(&format!("saegis {VERSION}"));
            }
            ExitCode::SUCCESS
        }
    }
}

/// Returns the exit code of a command whose failures are all faults of its input.
fn exit_code(result: Result<u8, impl std::fmt::Display>) -> ExitCode {
    match result {
        Ok(code) => ExitCode::from(code),
        Err(e) => print_error(&e.to_string(), BAD_INPUT),
    }
}

/// Runs a MAF, or re-encrypts the store of one that does not run.
fn run_maf(args: &maf::Args, runtime: &Runtime) -> ExitCode {
    let config = match saegis_gateway::config::Config::load_to_run(&args.config) {
        Ok(config) => config,
        Err(faults) => return print_error(&faults.to_string(), BAD_INPUT),
    };
    match (&args.reencrypt, config.role.maf()) {
        (_, None) => {
            print_error("this is not the configuration of a MAF: [maf] is missing", BAD_INPUT)
        }
        (Some(new), Some(maf)) => match maf_store::reencrypt(maf, new) {
            Ok(()) => {
                print(
                    "the store is encrypted with the new key; configure that key before the next start",
                );
                ExitCode::SUCCESS
            }
            Err(faults) => print_error(&faults.to_string(), BAD_INPUT),
        },
        (None, Some(_)) => serve(runtime, &args.config, config),
    }
}

/// Runs a MEF.
fn run_mef(args: &mef::Args, runtime: &Runtime) -> ExitCode {
    match saegis_gateway::config::Config::load_to_run(&args.config) {
        Ok(config) if config.role.mef().is_some() => serve(runtime, &args.config, config),
        Ok(_) => print_error("this is not the configuration of a MEF: [mef] is missing", BAD_INPUT),
        Err(faults) => print_error(&faults.to_string(), BAD_INPUT),
    }
}

/// Runs a gateway, a MAF or a MEF until it ends.
fn serve(runtime: &Runtime, file: &Path, config: saegis_gateway::config::Config) -> ExitCode {
    // Must precede the first open of a file, the audit trail.
    let exposed = match private_state::make_private(&config) {
        Ok(exposed) => exposed,
        Err(faults) => return print_error(&faults.to_string(), BAD_INPUT),
    };
    let started = logging::start(&config.log, &config.audit, is_colored())
        .and_then(|logging| Ok((logging, decision_log::start(&config.decisions)?)));
    match started {
        Err(faults) => print_error(&faults.to_string(), BAD_INPUT),
        Ok(((_log_guard, outputs), recording)) => {
            private_state::log(&exposed);
            if cfg!(saegis_bench) {
                tracing::warn!(
                    event = "gateway.without-wasm",
                    "this build makes decisions without sandboxes; use it for benchmarks only"
                );
            }
            let file = file.to_owned();
            // Runs on a worker thread of the runtime. On this thread, each accepted connection
            // would first have to wake a worker.
            let running = runtime.spawn(async move {
                server::run(&file, config, outputs, recording.as_ref()).await
            });
            match runtime.block_on(running) {
                Ok(Ok(())) => ExitCode::SUCCESS,
                Ok(Err(faults)) => print_error(&faults.to_string(), BAD_INPUT),
                Err(e) => print_error(&format!("the gateway failed: {e}"), 1),
            }
        }
    }
}
