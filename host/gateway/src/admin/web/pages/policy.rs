//! The generation in force: modules, tables and shadow modules.

use maud::{Markup, html};

use super::button;
use crate::admin::protocol::{GenerationReport, ModuleEntry, ShadowEntry, TableEntry};
use crate::admin::web::context::Context;
use crate::admin::web::text::{data, readable};
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
        (modules(&report.modules))
        (tables(&report.tables))
        (shadows(&report.shadows))
        (rest(&report))
    }
}

fn table(title: &str, columns: &[&str], rows: &[Vec<String>]) -> Markup {
    html! {
        h2 { (title) }
        @if rows.is_empty() {
            p { "none" }
        } @else {
            table {
                caption class="hidden" { (title) }
                thead { tr { @for name in columns { th scope="col" { (name) } } } }
                tbody {
                    @for row in rows {
                        tr {
                            @for (name, cell) in columns.iter().zip(row) {
                                td data-label=(name) { (data(cell)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn modules(modules: &[ModuleEntry]) -> Markup {
    let row = |module: &ModuleEntry| {
        let signed = match (&module.signed_by, &module.signed_at) {
            (Some(by), Some(at)) => format!("{by}, {}", readable(at)),
            _ => "not signed".into(),
        };
        let source = module.source.clone().unwrap_or_else(|| "file".into());
        let capabilities = listed(&module.capabilities);
        vec![
            module.name.clone(),
            listed(&module.hooks),
            capabilities,
            signed,
            source,
            short(&module.sha256),
        ]
    };
    let rows: Vec<_> = modules.iter().map(row).collect();
    table("Modules", &["Module", "Hooks", "Capabilities", "Signature", "Source", "SHA-256"], &rows)
}

fn tables(tables: &[TableEntry]) -> Markup {
    let row = |of: &TableEntry| {
        let read_by = listed(&of.read_by);
        let exposed = if of.exposed { "every user" } else { "its owner" };
        vec![
            of.name.clone(),
            of.rows.to_string(),
            of.short_keys.to_string(),
            exposed.into(),
            read_by,
        ]
    };
    let rows: Vec<_> = tables.iter().map(row).collect();
    table("Tables", &["Table", "Rows", "Short keys", "Readable by", "Read by the modules"], &rows)
}

fn shadows(shadows: &[ShadowEntry]) -> Markup {
    let row = |shadow: &ShadowEntry| {
        vec![
            shadow.name.clone(),
            shadow.replaces.clone().unwrap_or_default(),
            shadow.agreed.to_string(),
            shadow.disagreed.to_string(),
            shadow.not_compared.to_string(),
            shadow.faults.join("; "),
        ]
    };
    let columns = ["Module", "Would replace", "Agreed", "Disagreed", "Not compared", "Faults"];
    table("Shadow modules", &columns, &shadows.iter().map(row).collect::<Vec<_>>())
}

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
