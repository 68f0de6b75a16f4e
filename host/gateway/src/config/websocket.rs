//! The table `[websocket]`.

use std::time::Duration;

use saegis_policy::Document;
use serde::Deserialize;

/// The WebSocket binding (TS-0020).
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct WebSocket {
    /// Maximum number of requests of one connection that are carried out, or whose responses are not
    /// sent, at a time. Further ones are not read until then.
    pub requests: usize,
    /// Time without any message after which the peer is sent a ping, in seconds. It has the same time
    /// to answer.
    pub ping_seconds: u64,
    /// Time without any primitive after which the connection is closed, in seconds.
    pub idle_seconds: u64,
}

impl Default for WebSocket {
    fn default() -> Self {
        Self { requests: 16, ping_seconds: 60, idle_seconds: 24 * 3600 }
    }
}

impl WebSocket {
    /// Timeout after which the peer is sent a ping, and for its answer.
    pub fn ping(&self) -> Duration {
        Duration::from_secs(self.ping_seconds)
    }

    /// Timeout for a connection without any primitive.
    pub fn idle(&self) -> Duration {
        Duration::from_secs(self.idle_seconds)
    }

    /// Adds a fault for each option that cannot be as it is.
    pub(super) fn check(&self, document: &mut Document<'_>) {
        if !(1..=256).contains(&self.requests) {
            document.add_fault("websocket.requests", "must be from 1 to 256");
        }
        for (entry, seconds) in [
            ("websocket.ping-seconds", self.ping_seconds),
            ("websocket.idle-seconds", self.idle_seconds),
        ] {
            if !(1..=365 * 24 * 3600).contains(&seconds) {
                document.add_fault(entry, "must be from 1 second to a year");
            }
        }
    }
}
