//! The pages.

pub mod add_device;
pub mod associations;
pub mod device;
pub mod device_error;
pub mod devices;
pub mod list;
pub mod overview;
pub mod policy;
pub mod refusals;
pub mod requests;

use maud::{DOCTYPE, Markup, html};

use super::context::Context;
use super::health::{self, Health};
use super::text::{data, visible};
use crate::admin::protocol::WebRole;
use crate::admin::web_access::Session;

/// The pages of the navigation: path, name.
const PAGES: [(&str, &str); 6] = [
    ("./", "Overview"),
    ("refusals", "Refusals"),
    ("associations", "Associations"),
    ("requests", "Requests"),
    ("devices", "Devices"),
    ("policy", "Policy"),
];

/// Returns a page around its content. `path` is that in the navigation.
pub fn page(context: &Context, session: &Session, path: &str, content: &Markup) -> Markup {
    let title = PAGES.iter().find(|(of, _)| *of == path).map_or("Saegis", |(_, name)| name);
    let cse_id = context.commands.gateway.config.cse.cse_id.to_string();
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) " – Saegis " (visible(&cse_id)) }
                link rel="icon" href="icon.svg";
                link rel="stylesheet" href="style.css";
                script src="page.js" defer {}
            }
            body {
                a class="skip" href="#main" { "Skip to the content" }
                header {
                    p class="name" { "Saegis " (data(&cse_id)) }
                    nav aria-label="Pages" {
                        @for (of, name) in PAGES {
                            a href=(of) aria-current=[(of == path).then_some("page")] { (name) }
                        }
                    }
                    p class="session" {
                        span id="live" { "not live" }
                        " · role " (session.role.name())
                    }
                    (button(session, "sign-out", "Sign out", None, &[]))
                }
                (health_lines(&health::of(context)))
                main id="main" tabindex="-1" {
                    @if let Some(notice) = session.take_notice() {
                        p class="notice" role="status" { (visible(&notice)) }
                    }
                    h1 { (title) }
                    (content)
                }
            }
        }
    }
}

fn health_lines(health: &Health) -> Markup {
    let faults: Vec<_> = health.faults.iter().map(|fault| visible(fault)).collect();
    html! {
        section class="health" aria-label="State of the gateway" {
            ul {
                @for item in &health.items {
                    li data-state-of=(item.key) data-state=(item.state()) {
                        strong { (item.label) } " "
                        bdi class="data" data-text=(item.key) { (visible(&item.text)) }
                    }
                }
            }
            pre id="faults" data-text="faults" tabindex="0" role="region"
                aria-label="Faults of the policy on disk" { (faults.join("\n")) }
        }
    }
}

/// Returns a form with one button. Returns nothing if the role of the session does not permit it.
pub fn button(
    session: &Session,
    action: &str,
    label: &str,
    describes: Option<&str>,
    fields: &[(&str, &str)],
) -> Markup {
    if session.role == WebRole::View && action != "sign-out" {
        return html! {};
    }
    html! {
        form method="post" action=(action) data-confirm=[describes] {
            input type="hidden" name="token" value=(*session.form.text());
            @for (name, value) in fields {
                input type="hidden" name=(name) value=(value);
            }
            button type="submit" aria-label=[describes] { (label) }
        }
    }
}

/// Returns a page with one sentence.
pub fn message(context: &Context, session: &Session, text: &str) -> Markup {
    page(context, session, "", &html! { p { (visible(text)) } })
}
