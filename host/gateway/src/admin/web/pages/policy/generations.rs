//! The last generations: what each one changed, or why it was refused.

use maud::{Markup, html};

use crate::admin::protocol::{FaultEntry, GenerationEntry, GenerationList, ReloadOutcome};
use crate::admin::web::text::{data, readable};

/// Returns the list.
pub fn content(list: &GenerationList) -> Markup {
    html! {
        h2 { "Generations" }
        ol class="generations" {
            @for entry in &list.generations { (item(entry)) }
        }
    }
}

fn item(entry: &GenerationEntry) -> Markup {
    let is_refused = entry.outcome == ReloadOutcome::Refused;
    html! {
        li data-state=[is_refused.then_some("bad")] {
            p {
                strong {
                    @if is_refused {
                        "Refused; generation " (entry.generation) " stays in force"
                    } @else {
                        "Generation " (entry.generation) " in force"
                    }
                }
                " " span class="count" { (readable(&entry.at)) }
            }
            @if is_refused {
            } @else if entry.tables.is_empty() && entry.modules.is_empty() {
                p { (data(entry.changes.as_deref().unwrap_or("the first one"))) }
            } @else {
                (changes(entry))
            }
            @for fault in &entry.faults { (fault_item(fault)) }
        }
    }
}

fn changes(entry: &GenerationEntry) -> Markup {
    html! {
        ul {
            @for table in &entry.tables {
                li {
                    "Table " (data(&table.name)) ": " (table.added) " rows added, "
                    (table.removed) " removed, " (table.changed) " changed"
                }
            }
            @for module in &entry.modules {
                li {
                    "Module "
                    @match module.split_at_checked(1) {
                        Some(("+", name)) => { (data(name)) " added" }
                        Some(("-", name)) => { (data(name)) " removed" }
                        Some((_, name)) => { (data(name)) " changed" }
                        None => "",
                    }
                }
            }
        }
    }
}

fn fault_item(fault: &FaultEntry) -> Markup {
    html! {
        p class="fault" {
            (data(&fault.file))
            @if let Some(line) = fault.line { ", line " (line) }
            @if let Some(column) = fault.column { ", column " (column) }
            ": " (data(&fault.fault))
        }
        @if let Some(text) = &fault.text { pre class="line" { (data(text)) } }
    }
}
