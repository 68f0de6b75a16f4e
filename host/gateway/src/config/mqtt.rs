//! The table `[mqtt]`.

use std::path::PathBuf;
use std::time::Duration;

use saegis_policy::Document;
use serde::Deserialize;

use super::ListenAddress;
use super::telemetry::parsed_if_there;

/// The MQTT binding (TS-0010). The gateway is the MQTT server.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Mqtt {
    /// Address and port of the MQTT server, such as `127.0.0.1:8883`. Without it there is none. Its
    /// cipher suites are `listen.suites`.
    #[serde(deserialize_with = "parsed_if_there")]
    pub listen: Option<ListenAddress>,
    /// Maximum number of requests of one connection that are carried out, or whose responses are not
    /// sent, at a time. Further packets are not read until then.
    pub requests: usize,
    /// Time for which a session that is not clean lasts after its client has disconnected, with its
    /// subscriptions and what waits for the client, in seconds.
    pub session_seconds: u64,
    /// File of these sessions.
    pub store: PathBuf,
    /// Time without any packet after which a client is disconnected whose keep alive is 0, in seconds.
    pub idle_seconds: u64,
}

impl Default for Mqtt {
    fn default() -> Self {
        Self {
            listen: None,
            requests: 16,
            session_seconds: 24 * 3600,
            store: "state/mqtt-sessions.redb".into(),
            idle_seconds: 24 * 3600,
        }
    }
}

impl Mqtt {
    /// How long a session lasts after its client has disconnected.
    pub fn session(&self) -> Duration {
        Duration::from_secs(self.session_seconds)
    }

    /// Timeout for a client without keep alive.
    pub fn idle(&self) -> Duration {
        Duration::from_secs(self.idle_seconds)
    }

    /// Adds a fault for each option that cannot be as it is.
    pub(super) fn check(&self, document: &mut Document<'_>) {
        if !(1..=256).contains(&self.requests) {
            document.add_fault("mqtt.requests", "must be from 1 to 256");
        }
        for (entry, seconds) in [
            ("mqtt.session-seconds", self.session_seconds),
            ("mqtt.idle-seconds", self.idle_seconds),
        ] {
            if !(1..=365 * 24 * 3600).contains(&seconds) {
                document.add_fault(entry, "must be from 1 second to a year");
            }
        }
    }
}
