//! Changes that a session requests with a form.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap};
use zeroize::Zeroizing;

use super::context::Context;
use crate::admin::protocol::{Direction, ReloadOutcome, ReloadReport, Request, Response, WebRole};
use crate::admin::web_access::Session;
use crate::telemetry::admin_audit;

/// Maximum size of a form in bytes, and timeout for it.
const MAX_FORM: usize = 4096;
const FORM_TIMEOUT: Duration = Duration::from_secs(5);

/// A refused form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FormError {
    /// It is too large, too slow or not a form.
    Unreadable,
    /// The session has ended.
    Ended,
    /// It is not from a page of this session.
    Token,
    /// The role of the session does not permit it.
    Role,
    /// There is no such action, or it lacks a field.
    Unknown,
}

/// A change.
enum Action {
    /// It ends the session.
    SignOut,
    /// A request to the gateway.
    Request(Request),
}

/// Carries out a form, and returns the path of the next page. The result is the notice of the session.
/// `None` stands for the end of the session.
///
/// # Errors
/// Fails if the form is refused. Nothing is changed then.
pub async fn carry_out(
    context: &Arc<Context>,
    session: &Arc<Session>,
    action: &str,
    (headers, body): (&HeaderMap, Incoming),
) -> Result<Option<&'static str>, FormError> {
    let form = read_own(context, session, action, (headers, body)).await?;
    let (action, next) = match action {
        "sign-out" => (Action::SignOut, None),
        "reload" => {
            let request = Request::Reload { accept_removals: false, force: false };
            (Action::Request(request), Some("policy"))
        }
        "promote" | "roll-back" => {
            let module = field(&form, "module").ok_or(FormError::Unknown)?.to_string();
            let direction =
                if action == "promote" { Direction::Promote } else { Direction::RollBack };
            (Action::Request(Request::RollOut { direction, module }), Some("policy"))
        }
        "end-association" => {
            let id = field(&form, "id").and_then(|id| id.parse().ok()).ok_or(FormError::Unknown)?;
            (Action::Request(Request::EndAssociation { id }), Some("associations"))
        }
        _ => return Err(FormError::Unknown),
    };
    match action {
        Action::SignOut => {
            context.access.end(session);
        }
        Action::Request(request) => send(context, session, request).await?,
    }
    Ok(next)
}

/// Reads a form of this session.
///
/// # Errors
/// Fails if it cannot be read, if the session ended meanwhile, or if it is not from a page of this session.
pub async fn read_own(
    context: &Context,
    session: &Arc<Session>,
    action: &str,
    (headers, body): (&HeaderMap, Incoming),
) -> Result<Zeroizing<Vec<u8>>, FormError> {
    let form = read(headers, body).await.ok_or(FormError::Unreadable)?;
    // The form may have come slowly.
    if !context.access.is_active(session) {
        return Err(FormError::Ended);
    }
    if field(&form, "token").is_none_or(|token| !session.form.is(&token)) {
        admin_audit::page_refused(action, &session.opener, &session.id, "wrong token");
        return Err(FormError::Token);
    }
    Ok(form)
}

async fn send(
    context: &Arc<Context>,
    session: &Arc<Session>,
    request: Request,
) -> Result<(), FormError> {
    if session.role == WebRole::View && request.change().is_some() {
        let action = request.change().unwrap_or_default();
        admin_audit::page_refused(&action, &session.opener, &session.id, "role view");
        return Err(FormError::Role);
    }
    if let Some(command) = request.change() {
        admin_audit::page_administered(&command, &session.opener, &session.id);
    }
    // It completes even if the browser closes the connection.
    let (commands, uid) = (context.commands.clone(), session.uid);
    let carried_out = tokio::spawn(async move { commands.carry_out(request, uid).await });
    let response = carried_out.await.unwrap_or_else(|_| Response::error("it was interrupted"));
    session.set_notice(result(&response));
    Ok(())
}

/// Returns the result of a change in a sentence.
fn result(response: &Response) -> String {
    match response {
        Response::Ended(ended) if ended.ended => "The association ends.".into(),
        Response::Ended(_) => "There is no such association.".into(),
        Response::Reload(report) => reloaded(report),
        Response::RolledOut(report) => format!("{}.", report.summary()),
        Response::Error(failed) => format!("It failed: {}", failed.error),
        _ => "Done.".into(),
    }
}

fn reloaded(report: &ReloadReport) -> String {
    let generation = report.generation;
    let faults = report.faults.as_deref().unwrap_or_default().join("; ");
    match report.outcome {
        ReloadOutcome::Unchanged => format!("Nothing has changed since generation {generation}."),
        ReloadOutcome::InForce => {
            let changes = report.changes.as_deref().unwrap_or("nothing");
            format!("Generation {generation} is in force. Changed: {changes}. {faults}")
        }
        ReloadOutcome::Refused => {
            format!(
                "The policy on disk was refused; generation {generation} stays in force. {faults}"
            )
        }
    }
}

/// Reads a form. Returns `None` if it is too large, too slow or not a form.
async fn read(headers: &HeaderMap, body: Incoming) -> Option<Zeroizing<Vec<u8>>> {
    let kind = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    if kind != "application/x-www-form-urlencoded" {
        return None;
    }
    let collected = tokio::time::timeout(FORM_TIMEOUT, Limited::new(body, MAX_FORM).collect());
    let bytes: Bytes = collected.await.ok()?.ok()?.to_bytes();
    Some(Zeroizing::new(bytes.to_vec()))
}

/// Returns a field that occurs once.
pub fn field(form: &[u8], name: &str) -> Option<Zeroizing<String>> {
    let mut found = form_urlencoded::parse(form).filter(|(of, _)| of == name);
    let (_, value) = found.next()?;
    found.next().is_none().then(|| Zeroizing::new(value.into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_field_is_refused() {
        assert_eq!(field(b"id=1&token=a%20b", "token").as_deref().map(String::as_str), Some("a b"));
        assert!(field(b"id=1&id=2", "id").is_none());
        assert!(field(b"", "id").is_none());
    }
}
