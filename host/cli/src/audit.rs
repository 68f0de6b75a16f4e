//! `saegis audit verify`: finds changes in an audit trail.

mod reader;
mod report;

use std::path::PathBuf;

use saegis_policy::{Fault, Faults};

use reader::{Lines, Link};
pub use report::Report;
use saegis_gateway::config::Config;
use saegis_gateway::telemetry::audit::chain::Digest;

/// Arguments of `saegis audit`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Find changes in an audit trail: each line contains the digest of the line before it
    Verify {
        /// Files of one trail, in any order; `-` for standard input. By default both trails of the
        /// configuration, with their rotated files
        files: Vec<PathBuf>,
        /// Configuration of the gateway
        #[arg(long, default_value = "saegis.toml")]
        config: PathBuf,
        /// Digest printed by `saegis status` or by an earlier `saegis audit verify`; one line must
        /// have it
        #[arg(long, value_parser = digest)]
        head: Option<Digest>,
    },
}

fn digest(text: &str) -> Result<Digest, String> {
    Digest::parse(text).ok_or_else(|| "is not a digest of 64 hexadecimal digits".into())
}

/// Runs a verb and returns the exit code of the process: 0 if the trail is complete and unchanged,
/// 1 if there are faults, 2 if it cannot be read.
///
/// # Errors
/// Fails if a file cannot be read.
pub fn run(args: Args, as_json: bool) -> Result<u8, Faults> {
    let Verb::Verify { files, config, head } = args.verb;
    // Number of rotated files from which on the oldest file is removed.
    let mut old_files = None;
    let trails = if files.is_empty() {
        let audit = Config::load(&config)?.audit;
        let Some(file) = &audit.file else {
            let what = "audit.file is not set, so there is no trail; name the files to verify";
            return Err(Faults(vec![Fault::of(&config, what)]));
        };
        old_files = Some(audit.retained_files);
        let paths = [Some(file.clone()), audit.refusals_file()];
        let trails = paths.iter().flatten().map(|path| reader::read_trail(path));
        trails.collect::<Result<Vec<_>, _>>()?
    } else {
        vec![reader::read_files(&files)?]
    };
    let has_head = |head: &Digest| trails.iter().any(|t| t.lines.iter().any(|l| l.digest == *head));
    let missing = head.filter(|head| !has_head(head));
    let reports: Vec<_> = trails.iter().map(|trail| verify(trail, old_files)).collect();
    report::print(&reports, missing, as_json);
    let whole = missing.is_none() && reports.iter().all(|report| report.faults.is_empty());
    Ok(u8::from(!whole))
}

/// Compares each line with the line before it. If `old_files` is known, the start of the chain must
/// be present until there are that many rotated files.
fn verify(trail: &Lines, old_files: Option<u64>) -> Report<'_> {
    let lines = &trail.lines;
    let mut report = Report::of(trail);
    let at = |n: usize| trail.place(n);
    // Position of the line with a digest.
    let place_of: std::collections::HashMap<_, _> =
        lines.iter().enumerate().map(|(n, line)| (line.digest, n)).collect();
    // Last valid line.
    let mut last: Option<usize> = None;
    for (n, line) in lines.iter().enumerate() {
        let before = n.checked_sub(1).and_then(|n| lines.get(n));
        let after = lines.get(n + 1);
        let mut fault = |what: String| report.faults.push((n, what));
        match &line.link {
            Link::None { opening, why } => {
                let expected = saegis_gateway::telemetry::audit::chain::opening(
                    before.map(|line| line.digest),
                );
                let is_cut = before.is_none()
                    || opening.starts_with(expected.as_bytes())
                    || expected.as_bytes().starts_with(opening);
                let vouched = match after {
                    Some(after) => after.link == Link::To(line.digest),
                    None => !line.ended,
                };
                if is_cut && vouched {
                    report.notes.push((
                        n,
                        "is incomplete: the gateway ended while it wrote the line".into(),
                    ));
                } else {
                    fault(format!("{why}: it was changed or inserted"));
                    continue;
                }
            }
            Link::Start if n == 0 => report.begins = true,
            Link::Start => fault(
                "a new chain starts here: lines between it and the line before may be missing"
                    .into(),
            ),
            Link::To(_) if n == 0 => {}
            Link::To(digest)
                if last
                    .is_some_and(|last| lines.get(last).is_some_and(|l| l.digest == *digest)) => {}
            Link::To(digest) => match place_of.get(digest) {
                Some(&other) if other + 1 == n => {}
                Some(&other) if other < n => fault(format!(
                    "was written directly after {}: the lines between them were inserted or moved",
                    at(other)
                )),
                Some(&other) => fault(format!(
                    "was written after {}, which is further down: lines were moved",
                    at(other)
                )),
                None => fault(format!(
                    "was not written after {}: that line was changed, or lines between the two were \
                     removed",
                    at(n - 1)
                )),
            },
        }
        last = Some(n);
    }
    let are_fewer = old_files.is_some_and(|most| trail.files.len() as u64 <= most);
    if are_fewer && !report.begins && !lines.is_empty() {
        let what = "the chain does not start here, and there are fewer rotated files than \
                    audit.retained-files: older ones were removed, renamed or moved, or the option was \
                    raised (name all files, if they have other names)";
        report.faults.push((0, what.into()));
    }
    report
}
