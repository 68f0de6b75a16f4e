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
mod certs;
mod check;
mod decisions;
mod maf;
mod module;
mod output;
mod table;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use saegis_gateway::backend::maf_store;
use saegis_gateway::config::{self, private_state};
use saegis_gateway::telemetry::{decision_log, logging};
use saegis_gateway::{hardening, server};
use tokio::runtime::{self, Runtime};

use crate::output::{BAD_INPUT, print, print_error};

/// Version, as printed by `saegis version`.
const VERSION: &str = if cfg!(saegis_bench) {
    concat!(env!("CARGO_PKG_VERSION"), " without WASM, for benchmarks only")
} else {
    env!("CARGO_PKG_VERSION")
};

/// A oneM2M security gateway: establishes security associations (TS-0003). Sandboxed policy modules
/// decide who may connect and which originator a request may use.
#[derive(Parser)]
#[command(version = VERSION, propagate_version = true)]
struct Cli {
    /// Print JSON on standard output
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the gateway
    Run(Gateway),
    /// Run an M2M Authentication Function (MAF)
    Maf(maf::Args),
    /// Check the configuration, policy files and modules without opening a port
    Check(Gateway),
    #[command(flatten)]
    Admin(admin::Command),
    /// Act as an AE: establish an association with a registrar and send a request
    Ae(ae::Args),
    /// Create certificates for a trial, and inspect certificate files
    Certs(certs::Args),
    /// Verify audit trails
    Audit(audit::Args),
    /// Replay recorded decisions of a gateway
    Decisions(decisions::Args),
    /// Develop policy modules: create, inspect, test, try and roll out
    Module(module::Args),
    /// Print the version
    Version,
}

#[derive(clap::Args)]
struct Gateway {
    /// Configuration of the gateway; `saegis check` also accepts that of a MAF
    #[arg(long, default_value = "saegis.toml")]
    config: PathBuf,
}

fn main() -> ExitCode {
    saegis_allocator::return_large_blocks();
    // If OpenSSL refuses the functions, it uses the allocator of the C library.
    let _ = saegis_allocator::serve_openssl();
    let cli = Cli::parse();
    // These commands write files for other users too, and set the mode of secret files themselves.
    if !matches!(cli.command, Command::Certs(_) | Command::Module(_)) {
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
        Command::Run(gateway) => match config::Config::load(&gateway.config) {
            Err(faults) => print_error(&faults.to_string(), BAD_INPUT),
            Ok(config) if config.role.is_maf() => {
                print_error("this is the configuration of a MAF; run it with saegis maf", BAD_INPUT)
            }
            Ok(config) => serve(runtime, &gateway.config, config),
        },
        Command::Maf(args) => run_maf(&args, runtime),
        Command::Check(gateway) => runtime.block_on(check::check(&gateway.config, as_json)),
        Command::Ae(args) => match runtime.block_on(ae::run(args, as_json)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(e) => print_error(&e.to_string(), e.exit_code()),
        },
        Command::Admin(command) => match admin::run(command, as_json) {
            Ok(()) => ExitCode::SUCCESS,
            Err(e) => print_error(&e.to_string(), e.exit_code()),
        },
        Command::Certs(args) => exit_code(runtime.block_on(certs::run(args, as_json))),
        Command::Audit(args) => exit_code(audit::run(args, as_json)),
        Command::Decisions(args) => exit_code(runtime.block_on(decisions::run(args, as_json))),
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
    let config = match config::Config::load(&args.config) {
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

/// Runs a gateway or a MAF until it ends.
fn serve(runtime: &Runtime, file: &Path, config: config::Config) -> ExitCode {
    // Must precede the first open of a file, the audit trail.
    let exposed = match private_state::make_private(file, &config) {
        Ok(exposed) => exposed,
        Err(faults) => return print_error(&faults.to_string(), BAD_INPUT),
    };
    let started = logging::start(&config.log, &config.audit)
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
