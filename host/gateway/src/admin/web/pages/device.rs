//! One device: its keys without their values, and the forms that rotate and revoke them.

use maud::{Markup, html};

use super::device_error::of_error;
use super::devices::{Shown, not_writable, valid_until};
use crate::admin::protocol::WebRole;
use crate::admin::web::context::Context;
use crate::admin::web::device_files::with_files;
use crate::admin::web::text::{data, visible};
use crate::admin::web_access::Session;
use crate::devices::{Devices, FileLimits};

/// Returns the content of the page of the device with a KpsaID.
pub async fn content(context: &Context, session: &Session, id: String) -> Markup {
    let words = ["show".into(), id.clone()];
    let read = with_files(context, move |commands| {
        let mut devices = Devices::read(&commands.gateway.config, FileLimits::OF_GATEWAY)?;
        let rows = devices.of(&id)?;
        let app_id = rows.last().and_then(|row| devices.app_id(row));
        Ok((rows.iter().map(Shown::of).collect::<Vec<_>>(), app_id))
    });
    match read.await {
        Ok((keys, app_id)) => html! {
            (facts(&keys, app_id.as_deref()))
            (not_writable(context))
            @if session.role == WebRole::Operate { (forms(session, &keys)) }
        },
        Err(e) => of_error(&context.commands.gateway.config, &e, &words),
    }
}

fn facts(keys: &[Shown], app_id: Option<&str>) -> Markup {
    let Some(newest) = keys.last() else { return html! {} };
    html! {
        h2 { (data(&newest.name)) }
        dl {
            dt { "AE-ID" }
            dd {
                @if newest.ae_id.is_empty() { "assigned at registration" }
                @else { (data(&newest.ae_id)) }
            }
            dt { "App-ID" }
            dd {
                @match app_id {
                    Some(app_id) => (data(app_id)),
                    None => "no rule of the policy files names one",
                }
            }
        }
        table {
            caption { "Keys, the newest one last" }
            thead {
                tr { @for name in COLUMNS { th scope="col" { (name) } } }
            }
            tbody {
                @for key in keys {
                    tr {
                        @for (name, cell) in COLUMNS.iter().zip(cells(key)) {
                            td data-label=(name) { (data(&cell)) }
                        }
                    }
                }
            }
        }
    }
}

const COLUMNS: [&str; 4] = ["KpsaID", "Valid until", "State", "Line"];

fn cells(key: &Shown) -> [String; 4] {
    [key.kpsa_id.clone(), valid_until(&key.expires), key.state.into(), key.line.to_string()]
}

fn forms(session: &Session, keys: &[Shown]) -> Markup {
    let Some(newest) = keys.last() else { return html! {} };
    let name = visible(&newest.name);
    html! {
        h2 { "Change" }
        @if !newest.ae_id.is_empty() {
            form class="fields" method="post" action="rotate-device"
                data-confirm=(format!("Create a new key for {name}")) {
                (hidden(session, &newest.kpsa_id))
                p {
                    label for="days" { "Days for which the old key remains valid; 0 removes it at once" }
                    input type="number" id="days" name="overlap-days" value="7" min="0" max="36500" required;
                }
                p { button type="submit" { "Create a new key" } }
            }
        }
        form class="fields" method="post" action="revoke-device"
            data-confirm=(format!("Revoke all keys of {name}, and end its associations")) {
            (hidden(session, &newest.kpsa_id))
            p { button type="submit" { "Revoke all keys" } " Its rule is removed, and its associations end." }
        }
    }
}

/// Returns the fields that a form has without a label. The KpsaID of the newest key makes sure that a form
/// changes the device once, and as its page showed it.
fn hidden(session: &Session, kpsa_id: &str) -> Markup {
    html! {
        input type="hidden" name="token" value=(*session.form.text());
        input type="hidden" name="id" value=(kpsa_id);
    }
}
