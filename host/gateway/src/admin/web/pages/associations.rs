//! The active associations: search, pages, and the end of one.

use maud::{Markup, html};

use super::list::{PER_PART, Query};
use super::{button, requests};
use crate::admin::protocol::AssociationEntry;
use crate::admin::web::context::Context;
use crate::admin::web::text::{data, now, readable};
use crate::admin::web_access::Session;

/// Returns the content of the page.
pub fn content(context: &Context, session: &Session, query: &Query) -> Markup {
    let mut all = context.commands.associations().associations;
    let count = all.len();
    if !query.search.is_empty() {
        let wanted = query.search.to_lowercase();
        all.retain(|entry| has(entry, &wanted));
    }
    let shown = all.iter().skip(query.shown_part(all.len()) * PER_PART).take(PER_PART);
    html! {
        (query.form("associations", "Entity, Credential-ID, address or suite"))
        p { (all.len()) " of " (count) " associations, at " (now()) }
        table {
            caption class="hidden" { "Associations" }
            thead {
                tr {
                    @for name in COLUMNS { th scope="col" { (name) } }
                    th scope="col" { "Last requests" }
                    th scope="col" { "Action" }
                }
            }
            tbody { @for entry in shown { (row(session, entry)) } }
        }
        (query.links("associations", all.len()))
    }
}

/// Returns whether an association has a text, in lower case, in one of its fields.
fn has(entry: &AssociationEntry, wanted: &str) -> bool {
    let fields = [&entry.entity, &entry.credential_id, &entry.peer, &entry.suite, &entry.saef];
    fields.into_iter().any(|field| field.to_lowercase().contains(wanted))
}

const COLUMNS: [&str; 6] = ["Number", "Entity", "Credential-ID", "Address", "Suite", "Since"];

fn row(session: &Session, entry: &AssociationEntry) -> Markup {
    let id = entry.id.to_string();
    let describes = format!("End association {id}");
    let suite = format!("{} {}", entry.protocol, entry.suite);
    let since = readable(&entry.established);
    let cells = [&id, &entry.entity, &entry.credential_id, &entry.peer, &suite, &since];
    html! {
        tr {
            @for (name, cell) in COLUMNS.iter().zip(cells) {
                td data-label=(name) { (data(cell)) }
            }
            td { a href=(requests::address("association", &id)) { "Requests" } }
            td { (button(session, "end-association", "End", Some(&describes), &[("id", &id)])) }
        }
    }
}
