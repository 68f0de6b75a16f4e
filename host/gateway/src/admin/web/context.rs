//! State that all requests to the web page share.

use std::sync::Arc;

use super::history::History;
use super::rendering::Rendering;
use super::updates::Updates;
use crate::admin::commands::Commands;
use crate::admin::web_access::WebAccess;

/// State that all requests to the web page share.
pub struct Context {
    /// Operations on the gateway.
    pub commands: Arc<Commands>,
    /// Links and sessions.
    pub access: Arc<WebAccess>,
    /// The rates of the last hour.
    pub history: History,
    /// Streams of updates.
    pub updates: Updates,
    /// Threads that render pages.
    pub rendering: Rendering,
}
