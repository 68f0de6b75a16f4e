//! Events of the audit trail about administration.

use std::fmt;

use super::audit::{TARGET, cut};

/// Records a command of the gateway's owner, or of root, that changes the gateway.
pub fn administered(command: &str, uid: u32) {
    let command = &*cut(command);
    tracing::info!(target: TARGET, event = "admin.command", command, uid,
        "user {uid} requested {command}");
}

/// The user or operator who opened a session of the web page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opener {
    /// A user of this machine, who created the link.
    User(u32),
    /// An operator on another machine, by a name in their certificate.
    Certificate(String),
}

impl Opener {
    fn uid(&self) -> Option<u32> {
        match self {
            Self::User(uid) => Some(*uid),
            Self::Certificate(_) => None,
        }
    }

    fn certificate(&self) -> Option<&str> {
        match self {
            Self::User(_) => None,
            Self::Certificate(name) => Some(name),
        }
    }
}

impl fmt::Display for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(uid) => write!(f, "user {uid}"),
            Self::Certificate(name) => write!(f, "the operator {name}"),
        }
    }
}

/// Records that a session of the web page was opened.
pub fn page_opened(session: &str, role: &str, by: &Opener) {
    let (uid, certificate) = (by.uid(), by.certificate());
    tracing::info!(target: TARGET, event = "admin.session-opened", session, role, uid, certificate,
        "session {session} of the web page opened with the role {role} by {by}");
}

/// Records the end of a session of the web page.
pub fn page_closed(session: &str, by: &Opener, why: &str) {
    let (uid, certificate) = (by.uid(), by.certificate());
    tracing::info!(target: TARGET, event = "admin.session-closed", session, uid, certificate, why,
        "session {session} of {by} on the web page closed: {why}");
}

/// Records a change that was requested on the web page.
pub fn page_administered(command: &str, by: &Opener, session: &str) {
    let command = &*cut(command);
    let (uid, certificate) = (by.uid(), by.certificate());
    tracing::info!(target: TARGET, event = "admin.command", command, uid, certificate, session,
        "{by} requested {command} on the web page");
}

/// Records a change that was requested in a session, but refused.
pub fn page_refused(action: &str, by: &Opener, session: &str, why: &str) {
    let action = &*cut(action);
    let (uid, certificate) = (by.uid(), by.certificate());
    tracing::warn!(target: TARGET, event = "admin.change-refused", action, uid, certificate, session, why,
        "refused {action} of {by} on the web page: {why}");
}
