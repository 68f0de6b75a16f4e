//! `cargo xtask test`: everything that has to hold before a change is good.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{
    acme, debian, example,
    fuzz::{self, Search},
    modules, process,
    project::{self, Project},
    steps::Steps,
    templates, toolchain,
};

/// Clients and tools of the suites that no one here wrote: the program, and Debian's package.
const PROGRAMS: &[(&str, &str)] = &[
    ("gnutls-cli", "gnutls-bin"),
    ("openssl", "openssl"),
    ("curl", "curl"),
    ("faketime", "faketime"),
    ("minisign", "minisign"),
    ("docker-registry", "docker-registry"),
    // Limits and namespaces of their own for gateways under test.
    ("prlimit", "util-linux"),
    ("setpriv", "util-linux"),
    ("unshare", "util-linux"),
];

/// How long each fuzz target runs: enough to see that it works, and what any input would show.
const FUZZING_SECONDS: u32 = 5;

/// cargo-nextest without its own updater, which would bring a whole TLS library to compile.
const NEXTEST: &[&str] = &["--no-default-features", "--features", "default-no-update"];

/// Checks everything, or, given arguments for the test runner, only what they select.
pub fn run(project: &Project, args: &[String]) -> Result<()> {
    let mut steps = Steps::default();
    let result = if args.is_empty() {
        everything(project, &mut steps)
    } else {
        selection(project, &mut steps, args)
    };
    println!("\n{}", steps.summary());
    result
}

fn everything(project: &Project, steps: &mut Steps) -> Result<()> {
    steps.take("tools", || {
        programs()?;
        fuzz::compiler()?;
        subcommand("nextest", NEXTEST)?;
        subcommand("deny", &[])
    })?;
    steps.take("ACME", || acme::install(project))?;
    steps.take("format", || {
        say_and_run(project.host_cargo().args(["fmt", "--all", "--check"]))?;
        // Without --all, which follows paths into the main workspace.
        say_and_run(project.guest_cargo().args(["fmt", "--check"]))?;
        say_and_run(project.filter_cargo().args(["fmt", "--check"]))
    })?;
    steps.take("policy modules", || modules::build(project, None, true))?;
    steps.take("lints", || {
        let arguments = ["clippy", "--workspace", "--all-targets", "--locked"];
        let strict = ["--", "-D", "warnings"];
        say_and_run(project.host_cargo().args(arguments).args(strict))?;
        say_and_run(project.guest_cargo().args(arguments).args(strict))?;
        say_and_run(project.filter_cargo().args(arguments).args(strict))
    })?;
    steps.take("unit tests of the policy modules", || {
        // With --lib the module itself is not linked: a component's exports have names that only
        // a linker for WebAssembly takes.
        let arguments = ["nextest", "run", "--workspace", "--lib", "--locked"];
        say_and_run(project.guest_cargo().args(arguments))?;
        say_and_run(project.filter_cargo().args(arguments))
    })?;
    steps.take("gateway", || gateway(project))?;
    steps.take("tests", || tests(project, &[]))?;
    steps.take("templates of modules", || templates::check(project))?;
    steps.take("worked example", || example::run(project, "debug"))?;
    steps.take("fuzzing", || fuzz::run(project, None, FUZZING_SECONDS, Search::Repeatable))?;
    steps.take("documentation tests", || {
        let arguments = ["test", "--doc", "--workspace", "--locked"];
        say_and_run(project.host_cargo().args(arguments))
    })?;
    steps.take("documentation", || {
        let arguments = ["doc", "--workspace", "--no-deps", "--locked"];
        let mut cargo = project.host_cargo();
        say_and_run(cargo.args(arguments).env("RUSTDOCFLAGS", "-D warnings"))
    })?;
    steps.take("licenses and sources", || {
        dependencies(|| project.host_cargo(), project, &toolchain::host()?)?;
        dependencies(|| project.guest_cargo(), project, toolchain::TARGET)?;
        dependencies(|| project.filter_cargo(), project, toolchain::TARGET)
    })
}

fn selection(project: &Project, steps: &mut Steps, args: &[String]) -> Result<()> {
    steps.take("tools", || {
        programs()?;
        subcommand("nextest", NEXTEST)
    })?;
    steps.take("ACME", || acme::install(project))?;
    steps.take("policy modules", || modules::build(project, None, true))?;
    steps.take("gateway", || gateway(project))?;
    steps.take("tests", || tests(project, args))
}

/// Sees to the programs that the suites start.
fn programs() -> Result<()> {
    let mut missing: Vec<_> = PROGRAMS
        .iter()
        .chain(templates::PROGRAMS)
        .filter(|(program, _)| !process::on_path(program))
        .map(|(_, package)| *package)
        .collect();
    if !acme::has_python() {
        missing.push(acme::PACKAGE);
    }
    install(&missing)
}

/// Installs packages that are missing, or says who can.
pub fn install(missing: &[&str]) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    let request = format!(
        "more programs are needed; run `{}` as root on Debian",
        debian::install_line(missing)
    );
    if !debian::can_install() {
        bail!(request);
    }
    debian::install(missing).context(request)
}

/// Sees to a subcommand of cargo, built where it leaves nothing in our target folder.
fn subcommand(name: &str, arguments: &[&str]) -> Result<()> {
    if process::succeeds(project::cargo().args([name, "--version"])) {
        return Ok(());
    }
    println!("Installing cargo-{name}; this takes minutes");
    let package = format!("cargo-{name}");
    let mut cargo = project::cargo();
    cargo.args(["install", "--locked"]).args(arguments).arg(package);
    process::run(cargo.env_remove("CARGO_TARGET_DIR").env_remove("RUSTFLAGS"))
}

/// The gateway that the suites start: quick to build, and with its checks of arithmetic. Built
/// together with the tests, for alone it would get other features of its dependencies, and all of
/// wasmtime would be compiled twice.
fn gateway(project: &Project) -> Result<()> {
    let arguments = ["build", "--locked", "--workspace", "--bins", "--tests"];
    say_and_run(project.host_cargo().args(arguments))
}

fn tests(project: &Project, args: &[String]) -> Result<()> {
    let arguments = ["nextest", "run", "--workspace", "--locked", "--no-fail-fast"];
    let mut cargo = project.host_cargo();
    cargo
        .args(arguments)
        .args(args)
        .env("SAEGIS_BIN", project.gateway_binary("debug"))
        .env("SAEGIS_COMPONENTS", project.components())
        .env("SAEGIS_ACME", acme::folder()?);
    say_and_run(&mut cargo)
}

/// Runs the measurements of a gateway that was built for release, or only those with that word in their names.
pub fn load(project: &Project, word: Option<&str>) -> Result<()> {
    let mut filter = "test(/(^|::)load_/)".to_string();
    if let Some(word) = word {
        if !word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            bail!("{word:?} cannot be part of a test's name");
        }
        filter.push_str(&format!(" & test({word})"));
    }
    let mut cargo = project.host_cargo();
    cargo
        .args(["nextest", "run", "--locked", "--package", "saegis-tests"])
        .args(["--package", "saegis-policy", "--no-capture"])
        .args(["--run-ignored", "only", "-E", &filter])
        .env("SAEGIS_BIN", project.gateway_binary("release"))
        .env("SAEGIS_COMPONENTS", project.components());
    say_and_run(&mut cargo)
}

/// Checks what a workspace's lock file holds for a target. Warnings, such as of two versions of a
/// crate, are for whoever runs cargo-deny by hand. Advisories are left out: they come from a
/// database on the network that changes by itself, so that a commit could pass today and fail
/// tomorrow.
fn dependencies(cargo: impl Fn() -> Command, project: &Project, target: &str) -> Result<()> {
    // All of it is here already but for what no build needs, such as a crate for another feature.
    say_and_run(cargo().args(["fetch", "--locked", "--target", target]))?;
    let mut cargo = cargo();
    cargo
        .args(["deny", "--offline", "--locked", "--log-level", "error"])
        .args(["--target", target, "--config"])
        .arg(project.root.join("deny.toml"))
        .args(["check", "licenses", "bans", "sources"]);
    say_and_run(&mut cargo)
}

fn say_and_run(command: &mut Command) -> Result<()> {
    println!("$ {}", process::line(command));
    process::run(command)
}
