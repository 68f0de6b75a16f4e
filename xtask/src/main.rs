//! `cargo xtask`: one command each for building, running and testing Saegis.
//!
//! A plain `cargo build` cannot do it alone: the policy modules are built for another target, by
//! another workspace, and made components afterwards, and the test suites need the results of all
//! that as well as a few programs that cargo does not install.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a build tool talks to the person who started it"
)]

mod debian;
mod modules;
mod process;
mod project;
mod steps;
mod suite;
mod toolchain;

use std::{os::unix::process::CommandExt, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use crate::project::Project;

const ENVIRONMENT: &str = "\
Environment:
  SAEGIS_WASM_TOOLCHAIN    rustup or debian: take that way and no other
  SAEGIS_GUEST_TARGET_DIR  where the policy modules are built [default: guest-modules/target]
  CARGO_TARGET_DIR         where the gateway is built, as for cargo itself [default: target]";

/// Builds, runs and tests Saegis
///
/// The policy modules need a compiler for WebAssembly. What is installed is taken: the target
/// wasm32-unknown-unknown of rustup, else Debian's packages rustc-web and rust-web-src. Where
/// neither is there, the target is added with rustup, or, failing that, the packages are installed
/// (as root on Debian).
#[derive(Parser)]
#[command(bin_name = "cargo xtask", verbatim_doc_comment, after_help = ENVIRONMENT)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build the policy modules and the gateway (target/release/saegis)
    Build,
    /// Build the policy modules only
    ///
    /// The modules that ship go to policies/modules, where the gateway reads them; those and the
    /// examples go to guest-modules/target/components.
    Modules {
        /// Where the modules that ship go, in place of policies/modules
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// Build, then run the gateway in the project's folder
    ///
    /// The gateway takes the place of this process, so signals reach it.
    Run {
        /// What `saegis run` is given
        #[arg(last = true, value_name = "ARGS")]
        args: Vec<String>,
    },
    /// Check everything: format, lints, unit tests, suites, documentation, licences
    ///
    /// Installs what is missing: cargo-nextest, cargo-deny and, as root on Debian, the command
    /// lines of GnuTLS and OpenSSL, which the suites use as clients.
    Test {
        /// What `cargo nextest run` is given, such as a filter; the checks that are not tests of
        /// the workspace are then left out
        #[arg(last = true, value_name = "ARGS")]
        args: Vec<String>,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    let project = Project::find()?;
    match task {
        Task::Build => build(&project),
        Task::Modules { out } => modules::build(&project, out.as_deref(), false),
        Task::Run { args } => {
            build(&project)?;
            let mut gateway = project.gateway("release", &args);
            Err(gateway.exec()).with_context(|| format!("cannot start {}", process::line(&gateway)))
        }
        Task::Test { args } => suite::run(&project, &args),
    }
}

fn build(project: &Project) -> Result<()> {
    modules::build(project, None, false)?;
    println!("Building the gateway");
    process::run(project.host_cargo().args([
        "build",
        "--release",
        "--locked",
        "--package",
        "saegis",
    ]))
}
