//! Forms that add devices, rotate their keys and revoke them. They change the policy files with the code
//! of `saegis device`, and the gateway reloads them.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use maud::{Markup, html};
use rand::RngExt as _;
use tokio::runtime::Handle;
use zeroize::Zeroizing;

use super::actions::{FormError, field, read_own};
use super::context::Context;
use super::device_files::{quoted, with_files};
use super::pages::add_device::{self, MAX_FIELD, NewKey, Wanted};
use super::pages::device_error::of_error;
use super::pages::page;
use super::text::is_hidden;
use crate::admin::commands::Commands;
use crate::admin::protocol::{self, Request, WebRole};
use crate::admin::reloaded::Reloaded;
use crate::admin::web_access::Session;
use crate::devices::{DeviceError, Ends, FileLimits, LockedDevices};
use crate::telemetry::admin_audit;

/// A kind of change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceChange {
    /// A new device.
    Add,
    /// A new key.
    Rotate,
    /// The removal of all keys.
    Revoke,
}

impl DeviceChange {
    /// Returns the change that an action names.
    pub fn named(action: &str) -> Option<Self> {
        match action {
            "add-device" => Some(Self::Add),
            "rotate-device" => Some(Self::Rotate),
            "revoke-device" => Some(Self::Revoke),
            _ => None,
        }
    }

    /// Returns the action that names it.
    fn action(self) -> &'static str {
        match self {
            Self::Add => "add-device",
            Self::Rotate => "rotate-device",
            Self::Revoke => "revoke-device",
        }
    }
}

/// A change with its values.
enum Edit {
    Add(Wanted),
    /// `id` is the KpsaID of the newest key when the page was loaded.
    Rotate {
        id: String,
        days: String,
    },
    Revoke {
        id: String,
    },
}

/// Result of a change.
enum Done {
    Key(NewKey),
    Revoked(String),
}

/// Answer to a form.
pub enum FormAnswer {
    /// The path of the next page, which shows the notice of the session.
    Next(&'static str),
    /// A page.
    Page(StatusCode, Bytes),
}

/// Carries out a form.
///
/// # Errors
/// Fails if the form is refused. Nothing is changed then.
pub async fn carry_out(
    context: &Arc<Context>,
    session: &Arc<Session>,
    change: DeviceChange,
    form: (&HeaderMap, Incoming),
) -> Result<FormAnswer, FormError> {
    let form = read_own(context, session, change.action(), form).await?;
    if session.role == WebRole::View {
        admin_audit::page_refused(change.action(), &session.opener, &session.id, "role view");
        return Err(FormError::Role);
    }
    if !context.commands.gateway.config.role.is_cse() {
        return Err(FormError::Unknown);
    }
    let edit = Edit::parse(change, &form).ok_or(FormError::Unknown)?;
    let done = match edit.check() {
        Ok(()) => {
            let words: Vec<_> = edit.words().iter().map(|word| quoted(word)).collect();
            let command = format!("device {}", words.join(" "));
            admin_audit::page_administered(&command, &session.opener, &session.id);
            apply(context, session.uid, edit).await
        }
        Err(e) => Err((edit, e)),
    };
    Ok(match done {
        Ok(Done::Key(new)) => show_key(context, session, &new),
        Ok(Done::Revoked(text)) => {
            session.set_notice(text);
            FormAnswer::Next("devices")
        }
        Err((edit, error)) => show_error(context, session, &edit, &error),
    })
}

impl Edit {
    /// Parses a form. Returns `None` if it lacks a field.
    fn parse(change: DeviceChange, form: &[u8]) -> Option<Self> {
        let of = |name: &str| field(form, name).map(|value| value.trim().to_string());
        Some(match change {
            DeviceChange::Add => Self::Add(Wanted {
                name: of("name")?,
                app_id: of("app-id")?,
                expires: of("expires")?,
                identity: of("identity").unwrap_or_default(),
            }),
            DeviceChange::Rotate => Self::Rotate { id: of("id")?, days: of("overlap-days")? },
            DeviceChange::Revoke => Self::Revoke { id: of("id")? },
        })
    }

    /// Checks that the texts can stand in a line of the audit trail. All other checks are those of
    /// `saegis device`.
    fn check(&self) -> Result<(), DeviceError> {
        for word in self.words() {
            let what = match () {
                () if word.chars().count() > MAX_FIELD => {
                    format!("longer than {MAX_FIELD} characters")
                }
                () if word.contains(is_hidden) => "not text: it has invisible characters".into(),
                () => continue,
            };
            let start: String = word.chars().take(32).collect();
            return Err(DeviceError::Argument(format!("{start:?} is {what}")));
        }
        Ok(())
    }

    /// Returns the command of `saegis device` that does the same.
    fn words(&self) -> Vec<String> {
        match self {
            Self::Add(wanted) => wanted.words(),
            Self::Rotate { id, days } => {
                vec!["rotate-key".into(), id.clone(), "--overlap-days".into(), days.clone()]
            }
            Self::Revoke { id } => vec!["revoke".into(), id.clone()],
        }
    }

    /// Changes the files, and has the gateway load them.
    fn apply(
        &self,
        commands: &Arc<Commands>,
        reload: impl FnMut(Ends) -> io::Result<Reloaded>,
    ) -> Result<Done, DeviceError> {
        let mut devices = LockedDevices::open(&commands.gateway.config, FileLimits::OF_GATEWAY)?;
        let new_key = match self {
            Self::Add(wanted) => {
                let (row, app_id) = devices.add(&wanted.device())?;
                let change = format!("The device {} was added", row.name());
                let activation = devices.write(Ends::Limited, reload)?;
                NewKey { row, app_id: Some(app_id), change, activation }
            }
            Self::Rotate { id, days } => {
                check_newest(&devices, id)?;
                let days = days.parse();
                let days =
                    days.map_err(|_| DeviceError::Argument("enter a number of days".into()))?;
                let (row, until) = devices.rotate(id, days)?;
                let app_id = devices.app_id(&row);
                let old = match until {
                    Some(until) => format!("the old one ends at {until}"),
                    None => "the old one was removed".into(),
                };
                let change = format!("The device {} has a new key; {old}", row.name());
                let activation = devices.write(Ends::Any, reload)?;
                NewKey { row, app_id, change, activation }
            }
            Self::Revoke { id } => {
                check_newest(&devices, id)?;
                let removed = devices.revoke(id)?;
                let activation = devices.write(Ends::Any, reload)?;
                let ids: Vec<_> = removed.into_iter().map(|row| row.kpsa_id).collect();
                return Ok(Done::Revoked(format!("Revoked {}: {activation}.", ids.join(", "))));
            }
        };
        Ok(Done::Key(new_key))
    }
}

/// Checks that a key is still the newest one of its device. Otherwise a form that a browser sends again would
/// create one more key, or somebody else has changed the device.
fn check_newest(devices: &LockedDevices<'_>, id: &str) -> Result<(), DeviceError> {
    let rows = devices.of(id)?;
    match rows.last() {
        Some(newest) if newest.kpsa_id == id => Ok(()),
        _ => {
            let what = "the device has another key since its page was loaded; load the page again";
            Err(DeviceError::Argument(what.into()))
        }
    }
}

async fn apply(context: &Context, uid: u32, edit: Edit) -> Result<Done, (Edit, DeviceError)> {
    let (edit, handle) = (Arc::new(edit), Handle::current());
    let own = edit.clone();
    let done = with_files(context, move |commands| {
        own.apply(commands, |ends| handle.block_on(reload(commands, ends, uid)))
    });
    match done.await {
        Ok(done) => Ok(done),
        // The work has ended, so nothing else has the values.
        Err(e) => Err((Arc::into_inner(edit).unwrap_or(Edit::Revoke { id: String::new() }), e)),
    }
}

async fn reload(commands: &Commands, ends: Ends, uid: u32) -> io::Result<Reloaded> {
    let request = Request::Reload { accept_removals: false, force: ends == Ends::Any };
    match commands.carry_out(request, uid).await {
        protocol::Response::Reload(report) => Ok(report.into()),
        _ => Err(io::Error::other("the reload has another result")),
    }
}

/// Returns the page with a new key. The key is only in memory that is wiped after it was sent.
fn show_key(context: &Context, session: &Session, new: &NewKey) -> FormAnswer {
    let kpsa = new.row.kpsa.as_bytes();
    // The templates grow their text by copies, so they get a random text of the same length instead.
    let mut stand_in = vec![0; kpsa.len() / 2];
    rand::rng().fill(stand_in.as_mut_slice());
    let stand_in = hex::encode(stand_in);
    let markup = page(context, session, "devices", &add_device::new_key(context, new, &stand_in));
    let mut bytes = Zeroizing::new(markup.into_string().into_bytes());
    let at = bytes.windows(kpsa.len()).position(|part| part == stand_in.as_bytes());
    if let Some(part) = at.and_then(|at| bytes.get_mut(at..at + kpsa.len())) {
        part.copy_from_slice(kpsa);
    }
    FormAnswer::Page(StatusCode::OK, Bytes::from_owner(bytes))
}

fn show_error(
    context: &Context,
    session: &Session,
    edit: &Edit,
    error: &DeviceError,
) -> FormAnswer {
    let status = match error {
        DeviceError::Argument(_) => StatusCode::BAD_REQUEST,
        DeviceError::Faults(_) | DeviceError::File { .. } | DeviceError::Refused(_) => {
            StatusCode::CONFLICT
        }
    };
    let shown = of_error(&context.commands.gateway.config, error, &edit.words());
    let shown = match edit {
        Edit::Add(wanted) => add_device::content(context, session, wanted, Some(shown)),
        Edit::Rotate { .. } | Edit::Revoke { .. } => back(&shown),
    };
    let page = page(context, session, "devices", &shown);
    FormAnswer::Page(status, Bytes::from(page.into_string()))
}

fn back(shown: &Markup) -> Markup {
    html! {
        (shown)
        p { a href="devices" { "All devices" } }
    }
}
