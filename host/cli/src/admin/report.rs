//! Answers of a running gateway as lines of text.

use std::path::Path;

use saegis_gateway::admin::protocol::{ReloadOutcome, ReloadReport};
use serde_json::Value;

use crate::table::{table, text};

/// The state of the gateway, a line for each value.
pub fn status(answer: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    for (name, value) in answer.as_object().into_iter().flatten() {
        let name = name.replace('_', "-");
        let line = |value| format!("{name:13} {}", text(value));
        match value {
            // Each may be long.
            Value::Array(values) => lines.extend(values.iter().map(line)),
            value => lines.push(line(value)),
        }
    }
    lines
}

/// The modules and tables of the generation in force.
pub fn modules(answer: &Value) -> Vec<String> {
    let field = |name| answer.get(name).map(text).unwrap_or_default();
    let any = |name| answer.get(name).and_then(Value::as_array).is_some_and(|all| !all.is_empty());
    let mut lines = vec![format!("generation {}", field("generation"))];
    let columns = ["name", "hooks", "capabilities", "signed_by", "sha256"];
    lines.extend(table(answer.get("modules"), &columns));
    if any("shadows") {
        let columns = [
            "name",
            "replaces",
            "hooks",
            "agreed",
            "disagreed",
            "not_compared",
            "dropped",
            "faults",
        ];
        lines.push("shadows".into());
        lines.extend(table(answer.get("shadows"), &columns));
    }
    if any("replaced") {
        lines.push(format!("replaced: {}", field("replaced")));
    }
    lines.extend(table(answer.get("tables"), &["name", "rows", "read_by"]));
    lines
}

/// The outcome of a reload, and the reason where it failed.
pub fn reload(report: &ReloadReport, config: &Path) -> (Vec<String>, Option<String>) {
    let generation = report.generation;
    let mut lines = Vec::new();
    if report.configuration_changed {
        let file = config.display();
        lines.push(format!("{file} has changed since the start; it counts from the next start"));
    }
    let failure = match report.outcome {
        ReloadOutcome::Unchanged if report.recovered == Some(true) => {
            lines.push(format!(
                "what is on disk is good again: it is generation {generation}, which is in force"
            ));
            None
        }
        ReloadOutcome::Unchanged => {
            lines.push(format!("nothing has changed since generation {generation}"));
            None
        }
        ReloadOutcome::InForce => {
            lines.push(format!("generation {generation} is in force"));
            Some(faults(report)).filter(|missing| !missing.is_empty())
        }
        ReloadOutcome::Refused => {
            Some(format!("{}\ngeneration {generation} stays in force", faults(report)))
        }
    };
    (lines, failure)
}

/// The faults of a reload, a line each.
pub fn faults(report: &ReloadReport) -> String {
    report.faults.as_deref().unwrap_or_default().join("\n")
}

/// The release of an AE-ID.
pub fn released(credential_id: &str) -> String {
    format!("{credential_id} has no AE-ID any more")
}
