//! The last requests, each with its path: association, checks, CSE and response.

use maud::{Markup, html};

use crate::admin::protocol::{RequestEntry, RequestStep};
use crate::admin::web::text::{data, duration, readable};
use crate::telemetry::request_paths;

/// Maximum number of requests on the page.
const MAX_SHOWN: usize = 50;
/// Width of a bar in its own units, and its height.
const WIDTH: u64 = 1000;
const HEIGHT: u64 = 10;

/// Returns the address of the requests of an association (`association`), or of the refused requests of a
/// Credential-ID (`refused`).
pub fn address(parameter: &str, value: &str) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    format!("requests?{}", query.append_pair(parameter, value).finish())
}

/// Returns the content of the page.
pub fn content(query: &str) -> Markup {
    let mut requests = request_paths::entries().unwrap_or_default();
    let mut selection = "of all associations".to_string();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "association" => {
                requests.retain(|request| request.association.to_string() == *value);
                selection = format!("of association {value}");
            }
            "refused" => {
                requests
                    .retain(|r| r.is_refused() && (value.is_empty() || r.credential_id == *value));
                selection = format!("refused {value}");
            }
            _ => {}
        }
    }
    html! {
        p {
            "The last requests, " (data(&selection)) ". The gateway keeps five successful and five refused "
            "ones of each of the last 100 associations."
        }
        p { a href="requests" { "All" } " · " a href="requests?refused=" { "Refused" } }
        @if requests.is_empty() { p { "There are none." } }
        ol class="requests" {
            @for request in requests.iter().take(MAX_SHOWN) { (item(request)) }
        }
    }
}

fn item(request: &RequestEntry) -> Markup {
    let RequestEntry { rsc, total_us, .. } = request;
    let state = if request.is_refused() { "bad" } else { "good" };
    html! {
        li {
            p {
                strong { (request.operation) " " (data(&request.to)) }
                @if let Some(from) = &request.from { " from " (data(from)) }
                ": " span class="verdict" data-state=(state) { strong { (rsc) } }
                " in " (micro(*total_us))
                " " span class="count" { (readable(&request.at)) }
            }
            ol class="path" {
                li {
                    "association " (request.association) ": " (data(&request.credential_id)) " from "
                    (data(&request.peer))
                }
                @for (at, step) in request.steps.iter().enumerate() {
                    (step_item(step, before(request, at), *total_us))
                }
            }
        }
    }
}

/// Returns the time before a step.
fn before(request: &RequestEntry, step: usize) -> u64 {
    request.steps.iter().take(step).map(|step| step.us).sum()
}

fn step_item(step: &RequestStep, start: u64, total: u64) -> Markup {
    let scaled = |us: u64| us.saturating_mul(WIDTH) / total.max(1);
    // Even a step without a measurable time is visible.
    let (start, width) = (scaled(start).min(WIDTH - 4), scaled(step.us).clamp(4, WIDTH));
    let view = format!("0 0 {WIDTH} {HEIGHT}");
    let class = if step.why.is_some() { "refused" } else { "passed" };
    html! {
        li {
            span class="step" { (data(&step.name)) ": " (micro(step.us)) }
            svg viewBox=(view) preserveAspectRatio="none" aria-hidden="true" {
                rect class=(class) x=(start) y="0" width=(width) height=(HEIGHT) {}
            }
            @if let Some(why) = &step.why {
                p { span class="cause" { "refused" } " " (data(why)) }
            }
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a request does not last for centuries")]
fn micro(us: u64) -> String {
    duration(us as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_step_is_drawn_within_bar() {
        let why = Some("<b>no</b>".to_string());
        let step = RequestStep { name: "originator".into(), us: 50, why };
        let shown = step_item(&step, 150, 200).into_string();
        assert!(shown.contains("class=\"refused\" x=\"750\" y=\"0\" width=\"250\""), "{shown}");
        assert!(shown.contains("&lt;b&gt;no&lt;/b&gt;") && shown.contains("50 µs"), "{shown}");
        let empty = RequestStep { name: "response".into(), us: 0, why: None };
        assert!(step_item(&empty, 0, 0).into_string().contains("width=\"4\""));
        assert_eq!(address("refused", "a&b=<c>"), "requests?refused=a%26b%3D%3Cc%3E");
    }
}
