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
