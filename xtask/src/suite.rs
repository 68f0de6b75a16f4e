//! `cargo xtask test`: all checks that a change must pass.

use std::{fs, process::Command};

use anyhow::{Result, bail};

use crate::{
    acme, book, circles, claims, clients, debian, example,
    fuzz::{self, Search},
    modules, package, pages, process,
    project::Project,
    prose, python,
    reference::{self, Parts},
    steps::Steps,
    templates, toolchain,
    tools::{self, DENY, NEXTEST, subcommand, test_threads},
};

/// Clients and tools of the suites from other projects: the program, and Debian's package.
const PROGRAMS: &[(&str, &str)] = &[
    ("gnutls-cli", "gnutls-bin"),
    ("coap-client-gnutls", "libcoap3-bin"),
    ("openssl", "openssl"),
    ("curl", "curl"),
    // Comes with HAProxy, whose own program is not on every search path.
    ("halog", "haproxy"),
    ("faketime", "faketime"),
    ("minisign", "minisign"),
    ("docker-registry", "docker-registry"),
    ("stunnel", "stunnel4"),
    // Comes with the broker, whose own program is not on every search path.
    ("mosquitto_passwd", "mosquitto"),
    ("mosquitto_pub", "mosquitto-clients"),
    // For the web page.
    ("chromium", "chromium"),
    ("chromedriver", "chromium-driver"),
    // For a module in C of a client in Python, and its client with Mbed TLS.
    ("gcc", "gcc"),
    ("autoreconf", "autoconf"),
    ("aclocal", "automake"),
    ("python3-config", "python3-dev"),
    // Resource limits and namespaces for gateways under test.
    ("prlimit", "util-linux"),
    ("setpriv", "util-linux"),
    ("unshare", "util-linux"),
];

/// Seconds of each fuzz target, enough for a smoke test.
const FUZZING_SECONDS: u32 = 5;

/// Clippy's checks without a build.
const CLIPPY: [&str; 7] =
    ["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
/// Clippy's driver compiles as rustc does. A build through it needs the dependencies only once,
/// where `cargo clippy` and a build need them once each.
const LINTING_COMPILER: [(&str, &str); 2] = [
    ("RUSTC_WORKSPACE_WRAPPER", "clippy-driver"),
    ("CLIPPY_ARGS", "-D__CLIPPY_HACKERY__warnings__CLIPPY_HACKERY__"),
];

/// Checks everything or, with arguments for the test runner, only the selected tests.
pub fn run(project: &Project, args: &[String]) -> Result<()> {
    let result = summed_up(|steps| {
        if args.is_empty() { everything(project, steps) } else { selection(project, steps, args) }
    });
    // At the end, where it is seen.
    for (_, reason) in clients::skipped() {
        println!("{reason}");
    }
    result
}

/// Runs the checks that need no test.
pub fn lint(project: &Project) -> Result<()> {
    summed_up(|steps| {
        texts(project, steps)?;
        steps.take("lints", || {
            say_and_run(project.host_cargo().args(CLIPPY))?;
            lint_guests(project)
        })
    })
}

/// Runs the unit tests of the host's crates.
pub fn unit(project: &Project, args: &[String]) -> Result<()> {
    summed_up(|steps| {
        steps.take("tools", || subcommand(project, NEXTEST))?;
        steps.take("policy modules", || modules::build(project, None, true))?;
        // The whole workspace, so that the features and the builds of dependencies are the same.
        steps.take("unit tests", || say_and_run(&mut nextest(project, &["--lib", "--bins"], args)?))
    })
}

fn summed_up(task: impl FnOnce(&mut Steps) -> Result<()>) -> Result<()> {
    let mut steps = Steps::default();
    let result = task(&mut steps);
    println!("\n{}", steps.summary());
    result
}

fn everything(project: &Project, steps: &mut Steps) -> Result<()> {
    steps.take("tools", || {
        programs()?;
        fuzz::compiler()?;
        subcommand(project, NEXTEST)?;
        subcommand(project, DENY)?;
        tools::mdbook(project).map(drop)
    })?;
    steps.take("ACME", || acme::install(project))?;
    steps.take("clients", || clients::install(project))?;
    texts(project, steps)?;
    steps.take("policy modules", || modules::build(project, None, true))?;
    steps.take("lints of the policy modules", || lint_guests(project))?;
    steps.take("unit tests of the policy modules", || {
        // With --lib the module itself is not linked. The names of a component's exports are valid
        // only for a WebAssembly linker.
        let arguments = ["nextest", "run", "--workspace", "--lib", "--locked"];
        say_and_run(project.guest_cargo().args(arguments))?;
        say_and_run(project.filter_cargo().args(arguments))
    })?;
    steps.take("lints and build", || {
        let arguments = ["build", "--locked", "--workspace", "--all-targets"];
        say_and_run(project.host_cargo().args(arguments).envs(LINTING_COMPILER))
    })?;
    steps.take("reference pages", || reference::check(project, Parts::All))?;
    steps.take("tests", || {
        let mut cargo = nextest(project, &[], &test_threads())?;
        say_and_run(cargo.envs(LINTING_COMPILER))
    })?;
    steps.take("templates of modules", || templates::check(project))?;
    steps.take("commands of pages", || pages::check(project, None))?;
    steps.take("worked example", || example::run(project, "debug"))?;
    steps.take("package", || package::test(project))?;
    steps.take("fuzzing", || fuzz::run(project, None, FUZZING_SECONDS, Search::Repeatable))?;
    steps.take("documentation tests", || {
        let arguments = ["test", "--doc", "--workspace", "--locked"];
        say_and_run(project.host_cargo().args(arguments).envs(LINTING_COMPILER))
    })?;
    steps.take("documentation", || {
        let arguments = ["doc", "--workspace", "--no-deps", "--locked"];
        let mut cargo = project.host_cargo();
        say_and_run(cargo.args(arguments).env("RUSTDOCFLAGS", "-D warnings"))
    })?;
    steps.take("book", || book::build(project))?;
    steps.take("licenses and sources", || {
        dependencies(|| project.host_cargo(), project, &toolchain::host()?)?;
        dependencies(|| project.guest_cargo(), project, toolchain::TARGET)?;
        dependencies(|| project.filter_cargo(), project, toolchain::TARGET)
    })
}

/// Runs the checks of text files.
fn texts(project: &Project, steps: &mut Steps) -> Result<()> {
    steps.take("format", || {
        say_and_run(project.host_cargo().args(["fmt", "--all", "--check"]))?;
        // Without --all, which follows paths into the main workspace.
        say_and_run(project.guest_cargo().args(["fmt", "--check"]))?;
        say_and_run(project.filter_cargo().args(["fmt", "--check"]))
    })?;
    steps.take("imports", || circles::check(project))?;
    steps.take("tests that documents name", || claims::check(project))?;
    steps.take("reference tables", || reference::check(project, Parts::OfSources))?;
    steps.take("prose", || prose::check(project, ""))
}

fn lint_guests(project: &Project) -> Result<()> {
    say_and_run(project.guest_cargo().args(CLIPPY))?;
    say_and_run(project.filter_cargo().args(CLIPPY))
}

/// Runs selected tests of one program of the suites, by default `system`.
fn selection(project: &Project, steps: &mut Steps, args: &[String]) -> Result<()> {
    let named = args.iter().position(|arg| arg == "--test").and_then(|at| args.get(at + 1));
    let suite = named.map_or("system", String::as_str);
    steps.take("tools", || {
        programs()?;
        subcommand(project, NEXTEST)
    })?;
    match suite {
        "interop" => steps.take("ACME", || acme::install(project))?,
        "system" => steps.take("clients", || clients::install(project))?,
        _ => {}
    }
    steps.take("policy modules", || modules::build(project, None, true))?;
    let target = ["--test", suite];
    steps.take("gateway", || gateway(project, &[&["--bin", "saegis"], &target[..]].concat()))?;
    let chosen = if named.is_some() { &[][..] } else { &target };
    steps.take("tests", || say_and_run(&mut nextest(project, chosen, args)?))
}

/// Installs the programs that the suites start.
fn programs() -> Result<()> {
    let mut missing: Vec<_> = PROGRAMS
        .iter()
        .chain(templates::PROGRAMS)
        .filter(|(program, _)| !process::on_path(program))
        .map(|(_, package)| *package)
        .collect();
    if !python::is_there() {
        missing.push(python::PACKAGE);
    }
    debian::require(&missing)
}

/// Builds the gateway of the suites: a quick build with arithmetic checks. It is built together
/// with the tests, because other dependency features would compile wasmtime twice.
fn gateway(project: &Project, targets: &[&str]) -> Result<()> {
    let arguments = ["build", "--locked", "--workspace"];
    say_and_run(project.host_cargo().args(arguments).args(targets))
}

fn nextest(project: &Project, targets: &[&str], args: &[String]) -> Result<Command> {
    let mut cargo = project.host_cargo();
    cargo
        .args(["nextest", "run", "--locked", "--workspace"])
        .args(targets)
        .args(args)
        .env("SAEGIS_BIN", project.gateway_binary("debug"))
        .env("SAEGIS_COMPONENTS", project.components())
        .env("SAEGIS_ACME", acme::folder()?)
        .env("SAEGIS_CLIENTS", clients::folder()?);
    cargo.envs(clients::skipped());
    Ok(cargo)
}

/// Runs the measurements with a release build, or only those with this word in their names.
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
        .args(["--package", "saegis-policy", "--package", "saegis-load", "--no-capture"])
        .args(["--run-ignored", "only", "-E", &filter])
        .env("SAEGIS_BIN", project.gateway_binary("release"))
        .env("SAEGIS_COMPONENTS", project.components());
    say_and_run(&mut cargo)
}

/// Takes the pictures of the web page for the book, with the gateway that `cargo xtask test` built.
pub fn screenshots(project: &Project) -> Result<()> {
    programs()?;
    let mut cargo = project.host_cargo();
    cargo
        .args(["nextest", "run", "--locked", "--package", "saegis-tests", "--test", "system"])
        .args(["--run-ignored", "only", "-E", "test(/web_screenshots::/)"])
        .env("SAEGIS_COMPONENTS", project.components());
    say_and_run(&mut cargo)?;
    let (taken, book) =
        (project.host_target.join("tmp/book"), project.root.join("docs/src/how-to"));
    for entry in fs::read_dir(&taken)? {
        let entry = entry?;
        fs::copy(entry.path(), book.join(entry.file_name()))?;
        println!("{}", book.join(entry.file_name()).display());
    }
    Ok(())
}

/// Checks the locked dependencies of a workspace for a target. Warnings, such as two versions of a
/// crate, are left to manual runs of cargo-deny. Advisories are omitted, because their database
/// changes on the network and a commit could fail tomorrow.
fn dependencies(cargo: impl Fn() -> Command, project: &Project, target: &str) -> Result<()> {
    // All crates are present, except those that no build needs, such as for another feature.
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
