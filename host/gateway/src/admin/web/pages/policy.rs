//! The generation in force: modules, tables and shadow modules; and its predecessors.

mod generations;

use maud::{Markup, html};

use super::button;
use crate::admin::protocol::{GenerationReport, HookTimes, ModuleEntry, ShadowEntry, TableEntry};
use crate::admin::web::context::Context;
use crate::admin::web::text::{data, duration, readable};
use crate::admin::web_access::Session;

/// Returns the content of the page.
pub async fn content(context: &Context, session: &Session) -> Markup {
    // This reads all rows of large tables.
    let commands = context.commands.clone();
    let Ok(report) = tokio::task::spawn_blocking(move || commands.modules()).await else {
        return html! { p { "The generation cannot be read." } };
    };
    html! {
        p { "Generation " (report.generation.unwrap_or_default()) " is in force." }
        (button(session, "reload", "Reload now", None, &[]))
        (modules(session, &report.modules))
        (shadows(session, &report.shadows))
        (calls(&report.modules))
        (tables(&report.tables))
        (rest(&report))
        (generations::content(&context.commands.generations()))
    }
}

/// A row of a table, with a form if there is something to do.
struct Row {
    cells: Vec<String>,
    action: Option<Markup>,
}

impl Row {
    fn of(cells: Vec<String>) -> Self {
        Self { cells, action: None }
    }
}

fn table(title: &str, columns: &[&str], rows: &[Row]) -> Markup {
    let has_actions = rows.iter().any(|row| row.action.is_some());
    html! {
        h2 { (title) }
        @if rows.is_empty() {
            p { "none" }
        } @else {
            table {
                caption class="hidden" { (title) }
                thead {
                    tr {
                        @for name in columns { th scope="col" { (name) } }
                        @if has_actions { th scope="col" { "Action" } }
                    }
                }
                tbody {
                    @for row in rows {
                        tr {
                            @for (name, cell) in columns.iter().zip(&row.cells) {
                                td data-label=(name) { (data(cell)) }
                            }
                            @if has_actions { td { @if let Some(form) = &row.action { (form) } } }
                        }
                    }
                }
            }
        }
    }
}

fn modules(session: &Session, modules: &[ModuleEntry]) -> Markup {
    let row = |module: &ModuleEntry| {
        let signed = match (&module.signed_by, &module.signed_at) {
            (Some(by), Some(at)) => format!("{by}, {}", readable(at)),
            _ => "not signed".into(),
        };
        let source = module.source.clone().unwrap_or_else(|| "file".into());
        let capabilities = listed(&module.capabilities);
        let cells = vec![
            module.name.clone(),
            listed(&module.hooks),
            capabilities,
            signed,
            source,
            short(&module.sha256),
        ];
        let name = &module.name;
        let describes = format!("Roll back {name}");
        let fields = [("module", name.as_str())];
        let form = || button(session, "roll-back", "Roll back", Some(&describes), &fields);
        Row { cells, action: module.promoted.then(form) }
    };
    let rows: Vec<_> = modules.iter().map(row).collect();
    table("Modules", &["Module", "Hooks", "Capabilities", "Signature", "Source", "SHA-256"], &rows)
}

fn calls(modules: &[ModuleEntry]) -> Markup {
    let of = |module: &ModuleEntry| {
        let failures = module.failures.iter().map(|of| format!("{} {}", of.count, of.outcome));
        let failures = listed(&failures.collect::<Vec<_>>());
        let row = |call: &HookTimes| {
            Row::of(vec![
                module.name.clone(),
                call.hook.clone(),
                call.calls.to_string(),
                duration(call.median_us),
                duration(call.p99_us),
                failures.clone(),
            ])
        };
        module.calls.iter().map(row).collect::<Vec<_>>()
    };
    let rows: Vec<_> = modules.iter().flat_map(of).collect();
    let columns =
        ["Module", "Hook", "Calls", "Median", "99 of 100 within", "Failures of the module"];
    table("Calls since the start", &columns, &rows)
}

fn tables(tables: &[TableEntry]) -> Markup {
    let row = |of: &TableEntry| {
        let read_by = listed(&of.read_by);
        let exposed = if of.exposed { "every user" } else { "its owner" };
        Row::of(vec![
            of.name.clone(),
            of.rows.to_string(),
            of.short_keys.to_string(),
            exposed.into(),
            read_by,
        ])
    };
    let rows: Vec<_> = tables.iter().map(row).collect();
    table("Tables", &["Table", "Rows", "Short keys", "Readable by", "Read by the modules"], &rows)
}

fn shadows(session: &Session, shadows: &[ShadowEntry]) -> Markup {
    let row = |shadow: &ShadowEntry| {
        let name = &shadow.name;
        let cells = vec![
            name.clone(),
            shadow.replaces.clone().unwrap_or_default(),
            shadow.agreed.to_string(),
            shadow.disagreed.to_string(),
            shadow.not_compared.to_string(),
            shadow.faults.join("; "),
        ];
        let describes = format!("Promote {name}");
        let fields = [("module", name.as_str())];
        let form = || button(session, "promote", "Promote", Some(&describes), &fields);
        Row { cells, action: shadow.faults.is_empty().then(form) }
    };
    let columns = ["Module", "Would replace", "Agreed", "Disagreed", "Not compared", "Faults"];
    let differences = shadows.iter().flat_map(|shadow| {
        shadow.differences.iter().map(|of| {
            Row::of(vec![
                readable(&of.at),
                shadow.name.clone(),
                of.hook.clone(),
                of.question.clone(),
                of.in_force.clone(),
                of.shadow.clone(),
            ])
        })
    });
    let differences: Vec<_> = differences.collect();
    html! {
        (table("Shadow modules", &columns, &shadows.iter().map(row).collect::<Vec<_>>()))
        @if !differences.is_empty() {
            (table("The last disagreements", &DIFFERENCE, &differences))
        }
    }
}

const DIFFERENCE: [&str; 6] =
    ["Time", "Module", "Hook", "Question", "Decision in force", "Decision of the module"];

fn rest(report: &GenerationReport) -> Markup {
    html! {
        @if let Some(certificates) = &report.certificates {
            h2 { "Certificates" }
            ul {
                @for own in &certificates.own {
                    li { (data(&own.names.join(", "))) ", valid until " (readable(&own.expires)) }
                }
                li { (certificates.anchors) " trust anchors, " (certificates.pinned_keys) " pinned keys" }
            }
        }
        @if !report.replaced.is_empty() {
            h2 { "Replaced modules" }
            p { (data(&listed(&report.replaced))) }
        }
        @if !report.warnings.is_empty() {
            h2 { "Warnings" }
            ul { @for warning in &report.warnings { li { (data(warning)) } } }
        }
    }
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

/// Returns the start of a digest, which suffices to tell modules apart.
fn short(digest: &str) -> String {
    format!("{}…", digest.get(..16).unwrap_or(digest))
}
