//! `cargo xtask bench --against REV`: this checkout and another commit in interleaved rounds.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

use super::{
    args::{Args, TRIAL},
    behind::behind,
    contender::{Contender, Place, SERVER_CORE},
    round::{CERTIFICATES, Work, empty_folder, make_credentials, number},
};
use crate::{modules, process, project::Project};

/// Rows of the pre-shared key table.
const IDENTITIES: u64 = 100_000;
/// Measured seconds of a round.
const SECONDS: &str = "2";

/// Measures both commits, and prints ratios of CPU time.
pub fn run(project: &Project, revision: &str, args: &Args) -> Result<()> {
    let rounds = args.rounds;
    let out = project.host_target.join("bench");
    let work = empty_folder(out.join("work"))?;
    let modules_before = work.join("modules-before");
    let before = before(project, revision, &work, &modules_before)?;
    modules::build(project, None, false)?;
    for package in ["saegis", "saegis-load"] {
        let arguments = ["build", "--locked", "--package", package];
        process::run(project.measured_cargo().args(arguments).args(TRIAL))?;
    }
    let built = |name: &str| project.host_target.join("trial").join(name);
    let (behind, upstream) = behind(&built("saegis-load"))?;
    let _behind = behind;
    let place = Place {
        saegis: built("saegis"),
        without_wasm: PathBuf::new(),
        before,
        modules_before,
        modules: project.root.join("policies/modules"),
        work,
        load: built("saegis-load"),
        envoy: PathBuf::new(),
        filter: PathBuf::new(),
        upstream,
        server_cores: if args.both_cores { "0,1" } else { SERVER_CORE },
    };
    make_credentials(&place, &[1, IDENTITIES])?;
    let keys = Work::fresh("psk-cbc", IDENTITIES);
    let (tls12, tls13) = (Work::fresh("tls12", CERTIFICATES), Work::fresh("tls13", CERTIFICATES));
    let disciplines = [
        ("handshake: PSK CBC, first contacts", keys),
        ("handshake: PSK CBC, returning", keys.returning()),
        ("handshake: mutual P-256, TLS 1.2, first contacts", tls12),
        ("handshake: mutual P-256, TLS 1.2, returning", tls12.returning()),
        ("handshake: mutual P-256, TLS 1.3, first contacts", tls13),
        ("handshake: mutual P-256, TLS 1.3, returning", tls13.returning()),
        (
            "handshake: mutual P-256, TLS 1.3, resumed",
            Work::fresh("tls13-resumed", CERTIFICATES).returning(),
        ),
        ("keep-alive: PSK CBC", Work::persistent("psk-cbc", IDENTITIES)),
        ("keep-alive: mutual P-256, TLS 1.3", Work::persistent("tls13", 1)),
        ("idle association: PSK CBC", Work::held("psk-cbc", IDENTITIES)),
        ("idle association: TLS 1.3", Work::held("tls13", 1)),
    ];
    let is_wanted = |name: &str| args.row.is_empty() || args.row.iter().any(|t| name.contains(t));
    println!(
        "\nServer CPU of an operation, or memory of an association, as a multiple of that of \
         {revision}; {rounds} rounds"
    );
    println!("{:52} {:>8} {:>8} {:>8} {:>10}", "", "median", "least", "most", "now");
    for (name, work) in disciplines.into_iter().filter(|(name, _)| is_wanted(name)) {
        match ratios(&place, work, rounds) {
            Ok((ratio, now)) => println!(
                "{name:52} {:8.3} {:8.3} {:8.3} {:10.1} {}",
                ratio.median,
                ratio.least,
                ratio.most,
                now.median,
                if work.mode == "hold" { "bytes" } else { "µs" }
            ),
            Err(error) => println!("{name:52} failed: {error:#}"),
        }
    }
    fs::remove_dir_all(out.join("work"))?;
    Ok(())
}

/// Figures of several rounds.
struct Figures {
    median: f64,
    least: f64,
    most: f64,
}

impl Figures {
    fn of(mut rounds: Vec<f64>) -> Self {
        rounds.sort_by(f64::total_cmp);
        let at = |nth: usize| rounds.get(nth).copied().unwrap_or(f64::NAN);
        Self { median: at(rounds.len() / 2), least: at(0), most: at(rounds.len() - 1) }
    }
}

/// Measures both commits in turn. Returns the ratios of CPU time or memory, and this checkout's CPU
/// time of an operation in microseconds, or memory of an idle association in bytes.
fn ratios(place: &Place, work: Work, rounds: usize) -> Result<(Figures, Figures)> {
    let figure = if work.mode == "hold" { "bytes_each" } else { "server_cpu_us" };
    let (mut ratios, mut now) = (Vec::with_capacity(rounds), Vec::with_capacity(rounds));
    for round in 0..rounds.max(1) {
        let time = |contender| -> Result<f64> {
            Ok(number(&place.round(contender, work, SECONDS)?, figure))
        };
        // Each commit is first in every second round, because the machine may become busier.
        let (own, before) = if round % 2 == 0 {
            let own = time(Contender::Saegis)?;
            (own, time(Contender::SaegisBefore)?)
        } else {
            let before = time(Contender::SaegisBefore)?;
            (time(Contender::Saegis)?, before)
        };
        ratios.push(own / before);
        now.push(own);
    }
    Ok((Figures::of(ratios), Figures::of(now)))
}

/// Builds the gateway and the policy modules of another commit. Dependencies are shared if both
/// commits lock the same versions.
fn before(project: &Project, revision: &str, work: &Path, modules: &Path) -> Result<PathBuf> {
    let tree = work.join("before");
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        git.current_dir(&project.root).args(arguments);
        git
    };
    // A worktree of an earlier run may still be registered.
    process::run(&mut git(&["worktree", "prune"]))?;
    process::run(git(&["worktree", "add", "--quiet", "--detach"]).arg(&tree).arg(revision))?;
    let built = build_before(project, &tree, modules, &work.join("saegis-before"));
    process::run(git(&["worktree", "remove", "--force"]).arg(&tree))?;
    built
}

fn build_before(project: &Project, tree: &Path, modules: &Path, to: &Path) -> Result<PathBuf> {
    let arguments = ["build", "--locked", "--package", "saegis"];
    let mut cargo = project.measured_cargo();
    process::run(cargo.current_dir(tree).args(arguments).args(TRIAL))?;
    fs::rename(project.host_target.join("trial/saegis"), to)?;
    let mut xtask = project.host_cargo();
    xtask.current_dir(tree).args(["run", "--quiet", "--locked", "--package", "xtask", "--"]);
    // The modules' dependencies are shared too.
    xtask.env("SAEGIS_GUEST_TARGET_DIR", &project.guest_target);
    process::run(xtask.args(["modules", "--out"]).arg(modules))?;
    Ok(to.to_owned())
}
