//! Result of a verification.

use std::path::Path;

use saegis_policy::Shown;
use serde_json::{Value, json};

use super::reader::Lines;
use saegis_gateway::telemetry::audit::chain::Digest;

/// Maximum number of faults of a trail that are printed.
const MAX_FAULTS: usize = 100;

/// Result of the verification of one trail.
pub struct Report<'a> {
    trail: &'a Lines,
    /// Whether the first line starts a chain.
    pub begins: bool,
    /// Faults, each with its line.
    pub faults: Vec<(usize, String)>,
    /// Notes, each with its line.
    pub notes: Vec<(usize, String)>,
}

impl<'a> Report<'a> {
    /// Creates an empty report.
    pub fn of(trail: &'a Lines) -> Self {
        Self { trail, begins: false, faults: Vec::new(), notes: Vec::new() }
    }

    fn as_json(&self) -> Value {
        let found = |found: &[(usize, String)]| {
            let one = |(n, what): &(usize, String)| {
                let (file, line) = self.trail.file_and_line(*n);
                json!({ "file": Shown(file).to_string(), "line": line, "what": what })
            };
            found.iter().take(MAX_FAULTS).map(one).collect::<Vec<_>>()
        };
        let files = self.trail.files.iter().map(|file| Shown(file).to_string());
        json!({
            "files": files.collect::<Vec<_>>(),
            "lines": self.trail.lines.len(),
            "whole": self.faults.is_empty(),
            "begins": self.begins,
            "head": self.trail.lines.last().map(|line| line.digest.to_string()),
            "faults": found(&self.faults),
            "further_faults": self.faults.len().saturating_sub(MAX_FAULTS),
            "notes": found(&self.notes),
        })
    }

    fn print(&self) {
        let lines = &self.trail.lines;
        let newest = self.trail.files.last().map_or(Path::new(""), |file| file.as_path());
        let files = match self.trail.files.len() {
            1 => "1 file".to_string(),
            many => format!("{many} files"),
        };
        let is = if self.faults.is_empty() { "whole" } else { "NOT whole" };
        crate::output::print(&format!("{}: {} lines in {files}: {is}", Shown(newest), lines.len()));
        if !self.begins && !lines.is_empty() {
            let first = self.trail.place(0);
            crate::output::print(&format!("  the lines before {first} are not in these files"));
        }
        for (n, what) in self.notes.iter().take(MAX_FAULTS) {
            crate::output::print(&format!("  {} {what}", self.trail.place(*n)));
        }
        if let Some(last) = lines.last() {
            crate::output::print(&format!("  head {}", last.digest));
        }
        for (n, what) in self.faults.iter().take(MAX_FAULTS) {
            crate::output::print_error(&format!("{}: {what}", self.trail.place(*n)), 1);
        }
        if self.faults.len() > MAX_FAULTS {
            crate::output::print_error(&format!("and {} more", self.faults.len() - MAX_FAULTS), 1);
        }
    }
}

/// Prints reports.
pub fn print(reports: &[Report<'_>], missing: Option<Digest>, as_json: bool) {
    if as_json {
        let trails: Vec<_> = reports.iter().map(Report::as_json).collect();
        let whole = missing.is_none() && reports.iter().all(|report| report.faults.is_empty());
        let missing = missing.map(|digest| digest.to_string());
        let found = json!({ "whole": whole, "missing_head": missing, "trails": trails });
        return crate::output::print(&found.to_string());
    }
    reports.iter().for_each(Report::print);
    if let Some(digest) = missing {
        crate::output::print_error(
            &format!(
                "no line has the digest {digest}: lines were removed at the end, or the chain was \
                 rewritten, or the file with that line was not given"
            ),
            1,
        );
    }
}
