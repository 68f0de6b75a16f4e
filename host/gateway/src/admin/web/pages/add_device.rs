//! The form that adds a device, and the page that shows a new key once.

use maud::{Markup, html};

use super::devices::{NOT_OF_MAF, address as address_of_device, not_writable, valid_until};
use crate::admin::protocol::WebRole;
use crate::admin::web::context::Context;
use crate::admin::web::device_files::command;
use crate::admin::web::text::{data, visible};
use crate::admin::web_access::Session;
use crate::devices::{Device, Row};

/// Maximum length of a field in characters.
pub const MAX_FIELD: usize = 256;

/// Values of the form, as they were entered.
#[derive(Default)]
pub struct Wanted {
    /// Name of the device.
    pub name: String,
    /// App-ID; empty for the default.
    pub app_id: String,
    /// End of the validity; empty if it has none.
    pub expires: String,
    /// The identity that a refused device presented; empty if there is none.
    pub identity: String,
}

impl Wanted {
    /// Returns the values for an identity that a refused device presented. The issuer after the last `@` is
    /// that of this gateway, so it is not a part of the name.
    pub fn presented(identity: String) -> Self {
        let name = identity.rsplit_once('@').map_or(identity.as_str(), |(name, _)| name);
        Self { name: name.chars().take(MAX_FIELD).collect(), identity, ..Self::default() }
    }

    /// Returns the device to add.
    pub fn device(&self) -> Device {
        let app_id = Some(self.app_id.clone()).filter(|id| !id.is_empty());
        Device { name: self.name.clone(), app_id, expires: self.expires.clone() }
    }

    /// Returns the command of `saegis device` that adds it.
    pub fn words(&self) -> Vec<String> {
        let mut words = vec!["add".into(), self.name.clone()];
        for (option, value) in [("--app-id", &self.app_id), ("--expires", &self.expires)] {
            if !value.is_empty() {
                words.extend([option.into(), value.clone()]);
            }
        }
        words
    }
}

/// Returns the address of the form for an identity that a refused device presented.
pub fn address(identity: &str) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("identity", identity);
    format!("add-device?{}", query.finish())
}

/// Returns the content of the page with the form. `error` is that of the last try.
pub fn content(
    context: &Context,
    session: &Session,
    wanted: &Wanted,
    error: Option<Markup>,
) -> Markup {
    let config = &context.commands.gateway.config;
    let words = match wanted.name.is_empty() {
        true => vec!["add".into(), "NAME".into()],
        false => wanted.words(),
    };
    html! {
        h2 { "Add a device" }
        @if let Some(error) = error { (error) }
        @if !wanted.identity.is_empty() {
            p { "A refused device presented the identity " (data(&wanted.identity)) "." }
        }
        @if !config.role.is_cse() {
            p { (NOT_OF_MAF) }
        } @else if session.role == WebRole::View {
            p {
                "This session may only view. The command is "
                code { (data(&command(config, &words))) }
            }
        } @else {
            (not_writable(context))
            (form(session, wanted, config.cse.service_provider.as_deref()))
        }
    }
}

fn form(session: &Session, wanted: &Wanted, issuer: Option<&str>) -> Markup {
    let fields = [
        ("name", "Name, of letters, digits, . _ and -", "lamp", &wanted.name, true),
        ("app-id", "App-ID; by default N and the name", "Nlamp", &wanted.app_id, false),
        (
            "expires",
            "End of the validity of its key in UTC, if it has one",
            "20271231T235959",
            &wanted.expires,
            false,
        ),
    ];
    html! {
        form class="fields" method="post" action="add-device" {
            input type="hidden" name="token" value=(*session.form.text());
            input type="hidden" name="identity" value=(visible(&wanted.identity));
            @for (name, label, example, value, required) in fields {
                p {
                    label for=(name) { (label) }
                    input type="text" id=(name) name=(name) value=(visible(value)) placeholder=(example)
                        maxlength=(MAX_FIELD) required[required] autocomplete="off" spellcheck="false"
                        autocapitalize="none";
                }
            }
            p {
                "The device gets the AE-ID C and the name, the KpsaID name@"
                (data(issuer.unwrap_or("ISSUER"))) ", and a new key, which the next page shows once."
            }
            p { button type="submit" { "Add" } }
        }
    }
}

/// A key that was created a moment ago.
pub struct NewKey {
    /// The row. Its key is in the page only.
    pub row: Row,
    /// App-ID, if a rule names it.
    pub app_id: Option<String>,
    /// The change, for readers.
    pub change: String,
    /// When the change takes effect.
    pub activation: String,
}

/// Returns the content of the page with a new key. `kpsa` stands where the key is.
pub fn new_key(context: &Context, new: &NewKey, kpsa: &str) -> Markup {
    let (config, row) = (&context.commands.gateway.config, &new.row);
    let (address, cse_id) = (config.listen.address.to_string(), config.cse.cse_id.to_string());
    let expires = valid_until(&row.expires);
    let base = &config.cse.csebase_name;
    let values = [
        ("Address of the gateway", Some(address.as_str())),
        ("CSE-ID", Some(&cse_id)),
        ("CSEBase", Some(base)),
        ("AE-ID", Some(&row.ae_id)),
        ("App-ID", new.app_id.as_deref()),
        ("KpsaID", Some(&row.kpsa_id)),
        ("Valid until", Some(&expires)),
    ];
    html! {
        p class="notice" role="status" { (data(&new.change)) ": " (data(&new.activation)) "." }
        p {
            strong { "This page shows the key once. " }
            "Copy it to the device now. If it is lost, create a new one."
        }
        dl {
            @for (name, value) in values {
                @if let Some(value) = value { dt { (name) } dd { (data(value)) } }
            }
            dt { "Kpsa, in hexadecimal digits" }
            dd { code id="kpsa" { (kpsa) } }
        }
        p { a href=(address_of_device(&row.kpsa_id)) { "The device" } ", " a href="devices" { "all devices" } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presented_identity_fills_the_form() {
        for (identity, name) in [
            ("lamp@in.provider.com", "lamp"),
            ("a@b@c", "a@b"),
            ("lamp", "lamp"),
            ("", ""),
            ("<b>\u{202e}@x", "<b>\u{202e}"),
        ] {
            assert_eq!(Wanted::presented(identity.into()).name, name, "{identity}");
        }
        assert_eq!(Wanted::presented("ä".repeat(1000)).name.chars().count(), MAX_FIELD);
        let wanted =
            Wanted { expires: "20271231T235959".into(), ..Wanted::presented("a@b".into()) };
        assert_eq!(wanted.words(), ["add", "a", "--expires", "20271231T235959"]);
    }
}
