//! Refusals, grouped, with their remedies.

use maud::{Markup, html};

use super::{add_device, requests};
use crate::admin::remedies;
use crate::admin::web::text::{data, time};
use crate::telemetry::recent_refusals::{self, Group};

/// Returns the content of the page.
pub fn content() -> Markup {
    html! {
        p {
            "The last refusals since the start, grouped by cause and credential. "
            code { "saegis explain" } " names the file and the line. Further identities of one network, and \
            older refusals, are only in the audit trail."
        }
        (list(&recent_refusals::groups().iter().collect::<Vec<_>>()))
    }
}

/// Returns groups as a list.
pub fn list(groups: &[&Group]) -> Markup {
    html! {
        @if groups.is_empty() {
            p { "Nobody was refused since the start." }
        }
        ol class="refusals" {
            @for group in groups { (item(group)) }
        }
    }
}

fn item(group: &Group) -> Markup {
    let what = match group.event {
        "handshake.refused" => "Handshake refused",
        "request.refused" => "Request refused",
        "association.revoked" => "Association ended by policy",
        "association.superseded" => "Association ended by a newer one",
        _ => "Registration without an AE-ID",
    };
    html! {
        li {
            p class="what" {
                strong { (what) } ": " (data(&group.who))
                " " span class="count" { (group.count) "×, last " (time(group.last)) }
            }
            @if !group.detail.is_empty() { p { (data(&group.detail)) } }
            p { span class="cause" { (group.cause) } " " (data(&group.why)) }
            @if group.event == "request.refused" {
                p { a href=(requests::address("refused", &group.who)) { "Path of the last requests" } }
            }
            @if let Some(remedy) = remedies::of(group.event, &group.cause) {
                p class="remedy" { strong { "To change: " } (remedy) }
            }
            @if group.event == "handshake.refused" && &*group.cause == "unknown-identity" {
                p { a href=(add_device::address(&group.who)) { "This device is not in the table: add it" } }
            }
        }
    }
}
