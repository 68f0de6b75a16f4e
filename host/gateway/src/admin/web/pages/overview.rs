//! The first page: whether it is well, and who does not get in.

use std::time::SystemTime;

use maud::{Markup, html};

use super::refusals;
use crate::admin::protocol::StatusReport;
use crate::admin::web::chart::CHARTS;
use crate::admin::web::context::Context;
use crate::admin::web::text::{data, readable, time};
use crate::telemetry::recent_refusals;

/// Maximum number of groups of refusals on this page.
const MAX_REFUSALS: usize = 8;

/// Returns the content of the page.
pub async fn content(context: &Context) -> Markup {
    let (samples, groups) = (context.history.samples(), recent_refusals::groups());
    // Both read all rows of large tables.
    let commands = context.commands.clone();
    let read = tokio::task::spawn_blocking(move || {
        let expiries = commands.gateway.policy.current().expiries(SystemTime::now());
        let next = expiries.into_iter().filter_map(|expiry| Some((expiry.at?, expiry.name))).min();
        (commands.status(), next)
    });
    // It cannot panic; if it did, the page would lack these lines.
    let (status, next) = read.await.map_or((None, None), |(status, next)| (Some(status), next));
    html! {
        section aria-labelledby="refused" {
            h2 id="refused" { "Who does not get in" }
            (refusals::list(&recent_refusals::short_list(&groups, MAX_REFUSALS)))
            @if groups.len() > MAX_REFUSALS {
                p { a href="refusals" { "All " (groups.len()) " groups of refusals" } }
            }
        }
        section aria-labelledby="rates" {
            h2 id="rates" { "The last hour" }
            div class="charts" {
                @for chart in &CHARTS { (chart.figure(&samples)) }
            }
        }
        @if let Some(status) = &status { (facts(status, next.as_ref())) }
    }
}

fn facts(status: &StatusReport, next: Option<&(SystemTime, String)>) -> Markup {
    html! {
        section aria-labelledby="facts" {
            h2 id="facts" { "This gateway" }
            dl {
                dt { "Version" } dd { (status.version) }
                dt { "Started" } dd { (readable(&status.started)) }
                dt { "Address" } dd { (data(&status.address)) }
                dt { "Generation" } dd { (status.generation) }
                dt { "Associations" } dd { (status.associations) }
                dt { "Next expiry" }
                dd {
                    @match next {
                        Some((at, name)) => { (time(*at)) ": " (data(name)) }
                        None => "nothing expires",
                    }
                }
                @for peer in &status.peers { dt { "Peer CSE" } dd { (data(peer)) } }
            }
            @if !status.warnings.is_empty() {
                h3 { "Warnings" }
                ul { @for warning in &status.warnings { li { (data(warning)) } } }
            }
        }
    }
}
