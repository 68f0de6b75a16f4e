//! `cargo xtask fuzz`: libFuzzer on the targets of `fuzz/`, without a nightly compiler.
//!
//! Only the crates of the workspace are instrumented, by a compiler wrapper that cargo calls for
//! workspace members only. All dependencies come from an ordinary build, which shares its folder
//! with this one.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{debian, process, project, project::Project};

const PACKAGE: &str = "saegis-fuzz";
/// A test of the fuzz package, built only for its features. With a test among the targets, cargo
/// selects the dependency features of a build with tests.
const TEST: &str = "corpus";

/// Limits of a target: bytes of an input, seconds for one input, and memory in MiB.
const BOUNDS: [&str; 3] = ["-max_len=4096", "-timeout=10", "-rss_limit_mb=1024"];

/// Source of the inputs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Search {
    /// New inputs each time, based on earlier searches.
    Onward,
    /// The same inputs each time, from the committed seeds, so that the result is reproducible.
    Repeatable,
}

/// A fuzz target.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    name: String,
    /// Folders of seeds, which are not written to.
    seeds: Vec<PathBuf>,
    dictionary: Option<PathBuf>,
}

/// Installs the C++ compiler that libFuzzer needs.
pub fn compiler() -> Result<()> {
    let missing = if process::on_path("c++") { &[][..] } else { &["g++"] };
    debian::require(missing)
}

/// Runs each target, or one of them, for this many seconds.
pub fn run(project: &Project, name: Option<&str>, seconds: u32, search: Search) -> Result<()> {
    compiler()?;
    let targets = targets(&project::metadata(project.host_cargo(), &project.root)?)?;
    let chosen: Vec<_> =
        targets.iter().filter(|t| name.is_none_or(|name| t.name == name)).collect();
    if chosen.is_empty() {
        let names: Vec<_> = targets.iter().map(|target| target.name.as_str()).collect();
        bail!("unknown fuzz target; the targets are: {}", names.join(", "));
    }
    let programs = build(project, &targets)?;
    let folder = project.host_target.join("fuzz");
    // One worker for each processor, because a target uses only one.
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let (open, results) = (Mutex::new(chosen.into_iter()), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let next = lock(&open).next();
                    let Some(target) = next else { break };
                    let run = Run { target, program: programs.join(&target.name), folder: &folder };
                    let found = run.search(seconds, search);
                    match &found {
                        Ok(found) => println!("{}: {found}", target.name),
                        Err(error) => println!("{}: {error:#}", target.name),
                    }
                    lock(&results).push((target.name.as_str(), found));
                }
            });
        }
    });
    let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    let executions: u64 =
        results.iter().filter_map(|(_, found)| Some(found.as_ref().ok()?.executions)).sum();
    let failed: Vec<_> =
        results.iter().filter(|(_, found)| found.is_err()).map(|(name, _)| *name).collect();
    println!("total: {executions} executions");
    if !failed.is_empty() {
        bail!("fuzzing found something in {}", failed.join(", "));
    }
    Ok(())
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads the targets from cargo's metadata: the programs of the fuzz package.
fn targets(metadata: &Value) -> Result<Vec<Target>> {
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let package = packages.into_iter().find(|package| package["name"] == PACKAGE);
    let package = package.with_context(|| format!("the workspace has no package {PACKAGE}"))?;
    let manifest = package["manifest_path"].as_str().map(Path::new);
    let folder = manifest.and_then(Path::parent).context("a package is nowhere")?;
    let mut found = Vec::new();
    for target in package["targets"].as_array().into_iter().flatten() {
        if target.pointer("/kind/0").is_some_and(|kind| kind == "bin")
            && let Some(name) = target["name"].as_str()
        {
            let elsewhere = package.pointer(&format!("/metadata/seeds/{name}"));
            let elsewhere = elsewhere.and_then(Value::as_str);
            let own = folder.join("corpus").join(name);
            let dictionary = folder.join("dictionaries").join(name).with_extension("dict");
            found.push(Target {
                name: name.to_owned(),
                seeds: [own].into_iter().chain(elsewhere.map(|path| folder.join(path))).collect(),
                dictionary: dictionary.is_file().then_some(dictionary),
            });
        }
    }
    Ok(found)
}

/// Builds the instrumented programs of the targets, and returns their folder. They are moved there,
/// because an ordinary build uses the same names.
fn build(project: &Project, targets: &[Target]) -> Result<PathBuf> {
    println!("Building the fuzz targets");
    let mut cargo = project.host_cargo();
    cargo
        .args(["build", "--locked", "--workspace", "--test", TEST])
        .env("RUSTC_WORKSPACE_WRAPPER", project.root.join("fuzz/instrument"));
    for target in targets {
        cargo.args(["--bin", &target.name]);
    }
    process::run(&mut cargo)?;
    let folder = project.host_target.join("fuzz/programs");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    for Target { name, .. } in targets {
        let place = folder.join(name);
        // A running program cannot be overwritten, but it can be replaced.
        fs::remove_file(&place).ok();
        fs::copy(project.host_target.join("debug").join(name), &place)
            .with_context(|| format!("cannot write {}", place.display()))?;
    }
    Ok(folder)
}

/// One target, ready to run.
struct Run<'a> {
    target: &'a Target,
    program: PathBuf,
    /// Folder for all output of fuzzing.
    folder: &'a Path,
}

impl Run<'_> {
    fn search(&self, seconds: u32, search: Search) -> Result<Found> {
        let name = &self.target.name;
        let inputs = match search {
            Search::Onward => self.folder.join("corpus").join(name),
            Search::Repeatable => self.folder.join("repeatable").join(name),
        };
        if search == Search::Repeatable {
            fs::remove_dir_all(&inputs).ok();
        }
        let artifacts = self.folder.join("artifacts").join(name);
        for folder in [&inputs, &artifacts] {
            fs::create_dir_all(folder)
                .with_context(|| format!("cannot create {}", folder.display()))?;
        }
        let log = self.folder.join(name).with_extension("log");
        let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;

        let mut command = Command::new(&self.program);
        command
            // New inputs go to the first folder.
            .arg(&inputs)
            .args(&self.target.seeds)
            .args(BOUNDS)
            .arg("-print_final_stats=1")
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-artifact_prefix={}/", artifacts.display()))
            .args((search == Search::Repeatable).then_some("-seed=1"));
        if let Some(dictionary) = &self.target.dictionary {
            command.arg(format!("-dict={}", dictionary.display()));
        }
        command.current_dir(self.folder).stdin(Stdio::null());
        command.stdout(file.try_clone()?).stderr(file);
        let status = command.status().context("cannot start")?;

        let log = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
        if status.success() {
            return Found::read(&log).context("the log has no figures");
        }
        println!("{}", finding(&log));
        bail!("failed ({status}); {}", advice(name, &log, &self.program))
    }
}

/// Figures of a search without a finding.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    executions: u64,
    /// Edges of the control flow that were reached.
    coverage: u64,
    new_inputs: u64,
}

impl Found {
    /// Reads the final figures of libFuzzer.
    fn read(log: &str) -> Option<Self> {
        let figure = |name: &str| {
            let text = log.rsplit_once(name)?.1.split_whitespace().next()?;
            text.parse().ok()
        };
        Some(Self {
            executions: figure("stat::number_of_executed_units:")?,
            coverage: figure(" cov: ")?,
            new_inputs: figure("stat::new_units_added:")?,
        })
    }
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { executions, coverage, new_inputs } = self;
        write!(f, "{executions} executions, coverage {coverage}, {new_inputs} new inputs")
    }
}

/// Returns the description of a failure in a log.
fn finding(log: &str) -> String {
    let telling = |line: &str| line.contains("panicked at") || line.contains("ERROR: libFuzzer");
    let lines: Vec<_> = log.lines().collect();
    let start = lines.iter().position(|line| telling(line)).unwrap_or(0);
    lines.iter().skip(start).take(30).copied().collect::<Vec<_>>().join("\n")
}

/// Returns the next steps after a failure.
fn advice(name: &str, log: &str, program: &Path) -> String {
    let written = log.rsplit_once("Test unit written to ").map(|(_, path)| path);
    match written.and_then(|path| path.lines().next()) {
        Some(input) => format!(
            "the input is {input}; `{} {input}` shows it again, and in fuzz/corpus/{name} a test \
             does, as soon as it is mended",
            program.display()
        ),
        None => "it left no input".into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const LOG: &str = "\
        #2\tINITED cov: 12 ft: 13 corp: 1/1b exec/s: 0 rss: 30Mb\n\
        #8192\tDONE   cov: 345 ft: 600 corp: 34/1234b lim: 4096 exec/s: 4096 rss: 40Mb\n\
        stat::number_of_executed_units: 8192\n\
        stat::average_exec_per_sec:     4096\n\
        stat::new_units_added:          33\n";

    #[test]
    fn last_figures_are_used() {
        let found = Found::read(LOG).unwrap();
        assert_eq!(found, Found { executions: 8192, coverage: 345, new_inputs: 33 });
        assert_eq!(found.to_string(), "8192 executions, coverage 345, 33 new inputs");
        assert_eq!(Found::read("thread panicked"), None);
    }

    #[test]
    fn failure_names_input_and_next_step() {
        let log = "INFO: Seed: 1\nthread '<unnamed>' panicked at src/x.rs:1:1:\nno\n\
                   artifact_prefix='a/'; Test unit written to a/crash-12\nBase64: AA==\n";
        assert!(finding(log).starts_with("thread '<unnamed>' panicked at src/x.rs:1:1:\nno\n"));
        let advice = advice("ids", log, Path::new("p/ids"));
        assert!(advice.contains("`p/ids a/crash-12`") && advice.contains("fuzz/corpus/ids"));
    }

    #[test]
    fn package_programs_are_fuzz_targets() {
        let metadata = json!({ "packages": [
            { "name": "saegis", "targets": [{ "kind": ["bin"], "name": "saegis" }] },
            {
                "name": PACKAGE,
                "manifest_path": "/x/fuzz/Cargo.toml",
                "metadata": { "cargo-fuzz": true, "seeds": { "b": "../seeds" } },
                "targets": [
                    { "kind": ["lib"], "name": "saegis_fuzz" },
                    { "kind": ["bin"], "name": "a" },
                    { "kind": ["bin"], "name": "b" },
                    { "kind": ["test"], "name": TEST },
                ],
            },
        ] });
        let target = |name: &str, seeds: &[&str]| Target {
            name: name.into(),
            seeds: seeds.iter().map(PathBuf::from).collect(),
            dictionary: None,
        };
        let expected = [
            target("a", &["/x/fuzz/corpus/a"]),
            target("b", &["/x/fuzz/corpus/b", "/x/fuzz/../seeds"]),
        ];
        assert_eq!(targets(&metadata).unwrap(), expected);
        assert!(targets(&json!({ "packages": [] })).is_err());
    }
}
