//! Links and roles of the web page.

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Role of a session of the web page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WebRole {
    /// It shows everything and changes nothing.
    View,
    /// It also changes the gateway.
    Operate,
}

impl WebRole {
    /// Returns its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Operate => "operate",
        }
    }
}

/// A link that opens the web page once.
#[derive(Debug, Serialize, Deserialize)]
pub struct LinkReport {
    /// The link, and its lifetime.
    #[serde(flatten)]
    pub link: WebLink,
    /// The role of its session.
    pub role: WebRole,
}

/// Sessions of the web page.
#[derive(Debug, Serialize, Deserialize)]
pub struct WebSessionList {
    /// The sessions, the oldest first.
    pub sessions: Vec<WebSessionEntry>,
}

/// A session of the web page.
#[derive(Debug, Serialize, Deserialize)]
pub struct WebSessionEntry {
    /// Its name, as in the audit trail.
    pub id: String,
    /// Its role.
    pub role: WebRole,
    /// The user that created its link, or the name in the client certificate.
    pub by: String,
    /// The time at which it was opened.
    pub opened: String,
    /// The time at which it ends.
    pub expires: String,
}

/// The end of sessions of the web page.
#[derive(Debug, Serialize, Deserialize)]
pub struct SignedOut {
    /// The number of sessions that were ended.
    pub ended: usize,
}

/// Address of a link, which is a secret.
#[derive(Serialize, Deserialize)]
pub struct WebLink {
    /// The address.
    pub url: Zeroizing<String>,
    /// Its lifetime in seconds.
    pub seconds: u64,
}

impl fmt::Debug for WebLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebLink(hidden)")
    }
}
