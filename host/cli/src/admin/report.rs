//! Formats responses of a running gateway as lines of text.

use std::path::Path;

use saegis_gateway::admin::protocol::{
    Deleted, FaultEntry, GenerationEntry, GenerationList, LinkReport, ReloadOutcome, ReloadReport,
    RequestEntry, RequestList,
};
use saegis_policy::Shown;
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
    lines.extend(calls(answer));
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
        lines.extend(differences(answer));
    }
    if any("replaced") {
        lines.push(format!("replaced: {}", field("replaced")));
    }
    lines.extend(table(answer.get("tables"), &["name", "rows", "read_by"]));
    lines
}

/// Returns the calls of the modules since the start, one line per hook.
fn calls(answer: &Value) -> Vec<String> {
    let list = |value: &Value, name| value.get(name).and_then(Value::as_array).cloned();
    let mut rows = Vec::new();
    for module in list(answer, "modules").unwrap_or_default() {
        let failures = list(&module, "failures").unwrap_or_default();
        let failures = failures.iter().map(|of| {
            let field = |name| of.get(name).map(text).unwrap_or_default();
            format!("{} {}", field("count"), field("outcome"))
        });
        let failures: Vec<_> = failures.collect();
        for mut call in list(&module, "calls").unwrap_or_default() {
            for name in ["median_us", "p99_us"] {
                if let Some(value) = call.get_mut(name) {
                    *value = format!("{:.0}", value.as_f64().unwrap_or_default()).into();
                }
            }
            if let Some(call) = call.as_object_mut() {
                call.insert("module".into(), module.get("name").cloned().unwrap_or_default());
                call.insert("failures".into(), failures.clone().into());
            }
            rows.push(call);
        }
    }
    if rows.is_empty() {
        return Vec::new();
    }
    let columns = ["module", "hook", "calls", "median_us", "p99_us", "failures"];
    let mut lines = vec!["calls since the start".to_string()];
    lines.extend(table(Some(&Value::Array(rows)), &columns));
    lines
}

/// Returns the last decisions in which shadow modules disagreed.
fn differences(answer: &Value) -> Vec<String> {
    let shadows = answer.get("shadows").and_then(Value::as_array).into_iter().flatten();
    let of = |shadow: &Value| {
        let found = shadow.get("differences").and_then(Value::as_array).cloned();
        let name = shadow.get("name").map(text).unwrap_or_default();
        let line = move |of: Value| {
            let field = |name| of.get(name).map(text).unwrap_or_default();
            let (at, hook, question) = (field("at"), field("hook"), field("question"));
            let (before, after) = (field("in_force"), field("shadow"));
            format!("{at}  {name} would change {hook} of {question}: {before} \u{2192} {after}")
        };
        found.unwrap_or_default().into_iter().map(line).collect::<Vec<_>>()
    };
    shadows.flat_map(of).collect()
}

/// Returns the last generations, with their changes or their faults.
pub fn generations(list: &GenerationList) -> Vec<String> {
    list.generations.iter().flat_map(generation).collect()
}

fn generation(of: &GenerationEntry) -> Vec<String> {
    let what = match (of.outcome, &of.changes) {
        (ReloadOutcome::Refused, _) => "refused, in force stays".into(),
        (_, None) => "in force, the first one".into(),
        (_, Some(changes)) => format!("in force, {changes}"),
    };
    let mut lines = vec![format!("{}  {}  {what}", of.at, of.generation)];
    for FaultEntry { file, line, column, fault, text } in &of.faults {
        let position = [line, column].into_iter().flatten().map(|number| format!(":{number}"));
        let position: String = position.collect();
        lines.push(format!("    {}{position}: {fault}", Shown(Path::new(file))));
        lines.extend(text.as_ref().map(|text| format!("      {}", text)));
    }
    lines
}

/// Returns the last requests, each with its steps.
pub fn requests(list: &RequestList) -> Vec<String> {
    list.requests.iter().flat_map(request).collect()
}

fn request(of: &RequestEntry) -> Vec<String> {
    let from = of.from.as_ref().map(|from| format!(" from {from}")).unwrap_or_default();
    let (operation, to, rsc, us) = (&of.operation, &of.to, of.rsc, of.total_us);
    let mut lines = vec![
        format!("{}  {operation} {to}{from}: {rsc} in {us} µs", of.at),
        format!("    association {}: {} from {}", of.association, of.credential_id, of.peer),
    ];
    lines.extend(of.steps.iter().map(|step| {
        let why = step.why.as_ref().map(|why| format!(", refused: {why}")).unwrap_or_default();
        format!("    {}: {} µs{why}", step.name, step.us)
    }));
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

/// Returns the line about the end of a session of the web page, or of all sessions.
///
/// # Errors
/// Returns the reason if there is no such session.
pub fn signed_out(id: Option<&str>, ended: usize) -> Result<Vec<String>, String> {
    match id {
        Some(id) if ended == 0 => Err(format!("there is no session {id}")),
        Some(id) => Ok(vec![format!("session {id} has ended")]),
        None => Ok(vec![format!("{ended} sessions and all links have ended")]),
    }
}

/// Returns the lines about the deletion of an AE.
///
/// # Errors
/// Returns the reason if there is no such AE.
pub fn deleted(ae_id: &str, report: &Deleted) -> Result<Vec<String>, String> {
    let Deleted { deleted, credential_id } = report;
    if !deleted && credential_id.is_none() {
        return Err(format!("there is no AE {ae_id}"));
    }
    let deleted = deleted.then(|| format!("the AE {ae_id} was deleted"));
    Ok(deleted.into_iter().chain(credential_id.as_deref().map(released)).collect())
}

/// Returns the line about the release of an AE-ID.
pub fn released(credential_id: &str) -> String {
    format!("{credential_id} no longer has an AE-ID")
}
