//! Events of the audit trail about administration.

use super::audit::{TARGET, cut};

/// Records a command of the gateway's owner, or of root, that changes the gateway.
pub fn administered(command: &str, uid: u32) {
    let command = &*cut(command);
    tracing::info!(target: TARGET, event = "admin.command", command, uid,
        "user {uid} requested {command}");
}

/// Records that a link opened a session of the web page.
pub fn page_opened(session: &str, role: &str, uid: u32) {
    tracing::info!(target: TARGET, event = "admin.session-opened", session, role, uid,
        "session {session} of the web page opened with the role {role}, by a link of user {uid}");
}

/// Records that a session of the web page was ended by its user.
pub fn page_closed(session: &str, uid: u32) {
    tracing::info!(target: TARGET, event = "admin.session-closed", session, uid,
        "session {session} of the web page closed");
}

/// Records a change that was requested on the web page.
pub fn page_administered(command: &str, uid: u32, session: &str) {
    let command = &*cut(command);
    tracing::info!(target: TARGET, event = "admin.command", command, uid, session,
        "user {uid} requested {command} on the web page");
}
