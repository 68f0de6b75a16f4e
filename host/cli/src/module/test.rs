//! `saegis module test`: calls a module with the questions of a file of cases, and compares its
//! responses with the expected ones.

mod answer;
mod cases;
mod question;

use std::path::{Path, PathBuf};
use std::time::Duration;

use saegis_policy::{Document, Faults, Limits, ModuleHarness, Used};
use serde_json::json;

use super::error::ModuleError;
use crate::table::table;

/// Arguments of `saegis module test`.
#[derive(clap::Args)]
pub struct Args {
    /// Module file, with its manifest beside it; without a manifest, the module is granted every
    /// capability that it imports
    file: PathBuf,
    /// File of cases
    #[arg(long)]
    cases: PathBuf,
    /// Number of runs per case, each in a fresh sandbox; timings are medians
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    runs: u32,
    /// Reuse instances between the runs of a case, to measure the effect of `reuse`
    #[arg(long)]
    kept: bool,
}

/// Exit code if a case has an unexpected result.
const FAILED: u8 = 1;

/// Runs all cases. Returns the exit code.
///
/// # Errors
/// Returns all faults of the module or of the cases.
pub async fn run(args: &Args, as_json: bool) -> Result<u8, ModuleError> {
    show_log();
    let (file, text) = cases::File::read(&args.cases)?;
    let defaults = Limits { concurrent_calls: 1, ..Limits::default() };
    let bounds = file
        .cases
        .iter()
        .map(|case| question::bounds([file.limits, case.limits], &defaults).memory);
    let memory = bounds.max().unwrap_or(defaults.memory).max(defaults.memory);
    let questions = questions(&args.cases, &text, &file, &defaults)?;
    let limits = Limits { memory, ..defaults.clone() };
    let mut module = ModuleHarness::load(&args.file, &limits, code_cache().as_deref()).await?;
    missing_hooks(args, &text, &file, &module, &questions)?;

    let mut results = Vec::new();
    for (question, case) in questions.iter().zip(&file.cases) {
        if args.kept {
            module.reuse_instances();
        }
        results.push(try_case(&module, question, case, args.runs).await);
    }
    let failed = results.iter().filter(|result| result.wrong.is_some()).count();
    let rows: Vec<_> = results.iter().map(Tried::as_json).collect();
    if as_json {
        let out = json!({
            "file": args.file.to_string_lossy(), "cases": rows, "passed": results.len() - failed, "failed": failed,
        });
        crate::output::print(&out.to_string());
    } else {
        if !module.has_manifest() {
            let all = module.capabilities().iter().map(ToString::to_string).collect::<Vec<_>>();
            let all = if all.is_empty() { "none".into() } else { all.join(", ") };
            crate::output::print(&format!("no manifest beside it; granted its imports: {all}"));
        }
        let columns = ["case", "hook", "result", "microseconds", "fuel", "memory"];
        table(Some(&rows.into()), &columns).iter().for_each(|line| crate::output::print(line));
        for result in &results {
            if let Some(wrong) = &result.wrong {
                crate::output::print(&format!("{}: {wrong}", result.name));
            }
        }
        crate::output::print(&format!("{} passed, {failed} failed", results.len() - failed));
    }
    Ok(if failed == 0 { 0 } else { FAILED })
}

/// Result of a case.
struct Tried {
    name: String,
    hook: &'static str,
    /// Difference from the expected result.
    wrong: Option<String>,
    took: Duration,
    used: Used,
}

impl Tried {
    fn as_json(&self) -> serde_json::Value {
        let microseconds = self.took.as_nanos() / 100;
        json!({
            "case": self.name,
            "hook": self.hook,
            "result": if self.wrong.is_some() { "failed" } else { "passed" },
            "wrong": self.wrong,
            "microseconds": microseconds as f64 / 10.0,
            "fuel": self.used.fuel,
            "memory": self.used.memory,
        })
    }
}

async fn try_case(
    module: &ModuleHarness,
    question: &question::Question,
    case: &cases::Case,
    runs: u32,
) -> Tried {
    let expected = case.expect.get_ref();
    let mut tried = Tried {
        name: question.name.clone(),
        hook: question.hook.name(),
        wrong: None,
        took: Duration::ZERO,
        used: Used::default(),
    };
    let mut took = Vec::new();
    for _ in 0..runs {
        let (answer, used) = answer::ask(module, question).await;
        took.push(used.took);
        tried.used = used;
        let differs = answer.differs(expected, question.found.as_ref());
        let most = question.fuel.filter(|most| used.fuel > *most);
        tried.wrong = match (differs, most) {
            (Some(answer), _) => Some(format!("answered {answer}")),
            (None, Some(most)) => Some(format!("used {} of {most} fuel", used.fuel)),
            (None, None) => None,
        };
        if tried.wrong.is_some() {
            break;
        }
    }
    took.sort_unstable();
    tried.took = took.get(took.len() / 2).copied().unwrap_or_default();
    tried
}

/// Returns the folder of compiled modules, if the user has a folder for caches.
fn code_cache() -> Option<PathBuf> {
    let set = |variable: &str| std::env::var_os(variable).filter(|value| !value.is_empty());
    let caches = set("XDG_CACHE_HOME").map(PathBuf::from);
    let caches = caches.or_else(|| Some(PathBuf::from(set("HOME")?).join(".cache")))?;
    // A relative path would create caches in the folders of modules.
    caches.is_absolute().then(|| caches.join("saegis/code"))
}

fn questions(
    path: &Path,
    text: &str,
    file: &cases::File,
    defaults: &Limits,
) -> Result<Vec<question::Question>, Faults> {
    let mut document = Document::parse(path, text);
    let questions = question::questions(file, defaults, &mut document);
    let faults = document.into_faults();
    if faults.is_empty() { Ok(questions) } else { Err(Faults(faults)) }
}

/// Checks that the cases only use hooks that the module exports.
fn missing_hooks(
    args: &Args,
    text: &str,
    file: &cases::File,
    module: &ModuleHarness,
    questions: &[question::Question],
) -> Result<(), Faults> {
    let hooks = module.hooks();
    let mut document = Document::parse(&args.cases, text);
    for (case, question) in file.cases.iter().zip(questions) {
        if !hooks.contains(&question.hook) {
            let module = saegis_policy::Shown(&args.file);
            let what = format!("calls {}, which {module} does not export", question.hook);
            document.add_fault_of(&case.name, &what);
        }
    }
    let faults = document.into_faults();
    if faults.is_empty() { Ok(()) } else { Err(Faults(faults)) }
}

/// Prints the log lines of modules.
fn show_log() {
    let of_modules = tracing_subscriber::EnvFilter::new("saegis_policy=debug");
    let lines = tracing_subscriber::fmt()
        .with_env_filter(of_modules)
        .with_writer(std::io::stderr)
        .with_target(false)
        .without_time();
    // It can be set once, and nothing else sets it in this process.
    let _ = lines.try_init();
}
