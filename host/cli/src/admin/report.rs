//! Formats responses of a running gateway as lines of text.

use std::path::Path;

use saegis_gateway::admin::protocol::{LinkReport, ReloadOutcome, ReloadReport};
use serde_json::Value;

use crate::table::{table, text};

/// Returns the state of the gateway, one line per value, with the names that the JSON has.
pub fn status(answer: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    for (name, value) in answer.as_object().into_iter().flatten() {
        let line = |value| format!("{name:13} {}", text(value));
        match value {
            // A list may be long, so each item has its own line.
            Value::Array(values) => lines.extend(values.iter().map(line)),
            value => lines.push(line(value)),
        }
    }
    lines
}

/// Returns the modules and tables of the generation in force.
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

/// Returns the outcome of a reload, and the reason if it failed.
pub fn reload(report: &ReloadReport, config: &Path) -> (Vec<String>, Option<String>) {
    let generation = report.generation;
    let mut lines = Vec::new();
    if report.configuration_changed {
        let file = config.display();
        lines.push(format!("{file} has changed since the start; restart the gateway to apply it"));
    }
    let failure = match report.outcome {
        ReloadOutcome::Unchanged if report.recovered == Some(true) => {
            lines.push(format!(
                "the files on disk are valid again: generation {generation} is in force"
            ));
            None
        }
        ReloadOutcome::Unchanged => {
            lines.push(format!("nothing has changed since generation {generation}"));
            None
        }
        ReloadOutcome::InForce => {
            let changes = report.changes.as_ref().map(|what| format!(": {what}"));
            lines.push(format!(
                "generation {generation} is in force{}",
                changes.unwrap_or_default()
            ));
            Some(faults(report)).filter(|missing| !missing.is_empty())
        }
        ReloadOutcome::Refused => {
            Some(format!("{}\ngeneration {generation} stays in force", faults(report)))
        }
    };
    (lines, failure)
}

/// Returns the faults of a reload, one per line.
pub fn faults(report: &ReloadReport) -> String {
    report.faults.as_deref().unwrap_or_default().join("\n")
}

/// Returns a link to the web page, and its use.
pub fn link(report: &LinkReport) -> Vec<String> {
    let (seconds, role) = (report.link.seconds, report.role.name());
    let usage = format!(
        "opens once within {seconds} seconds, with the role {role}; open it in a browser on this machine"
    );
    vec![report.link.url.to_string(), usage]
}

/// Returns the line about the release of an AE-ID.
pub fn released(credential_id: &str) -> String {
    format!("{credential_id} no longer has an AE-ID")
}
