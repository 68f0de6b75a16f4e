//! Upstream CSE as the backend, without TLS: over the HTTP binding, or over the MQTT server that
//! the CSE is a client of.

mod http;
mod mqtt;

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use ::http::Uri;
use prometheus_client::metrics::counter::Counter;
use saegis_onem2m::id::CseId;
use saegis_onem2m::primitive::{RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::rsc::Rsc;
use tokio::net::TcpStream;

use self::http::HttpUpstream;
use self::mqtt::MqttUpstream;
use super::outcome::Outcome;
use super::reachability::Reachability;

/// Upstream CSE.
pub struct RemoteBackend {
    binding: UpstreamBinding,
    url: Uri,
    reachability: Mutex<Reachability>,
}

/// Timeout for a connection that checks whether the CSE can be reached.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Binding of the upstream CSE.
enum UpstreamBinding {
    Http(HttpUpstream),
    Mqtt(MqttUpstream),
}

impl RemoteBackend {
    /// Creates the backend of the CSE `cse` at `url`: a scheme, `http` or `mqtt`, and an authority.
    /// `max_packet` limits the packets for the MQTT server. `dropped` counts its messages that
    /// respond to no request. Must be called within a Tokio runtime.
    pub fn new(
        url: Uri,
        cse: CseId,
        content_bytes: usize,
        max_packet: Option<usize>,
        dropped: Counter,
    ) -> Self {
        let binding = if url.scheme_str() == Some("mqtt") {
            UpstreamBinding::Mqtt(MqttUpstream::new(&url, cse, content_bytes, max_packet, dropped))
        } else {
            UpstreamBinding::Http(HttpUpstream::new(&url, cse, content_bytes))
        };
        Self { binding, url, reachability: Mutex::default() }
    }

    /// Returns whether the CSE, or its MQTT server, can be reached.
    pub fn reachability(&self) -> Reachability {
        self.reachability.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Opens a connection, and stores whether that succeeded. Returns the state if it has changed.
    pub async fn check(&self) -> Option<Reachability> {
        let host = self.url.host().unwrap_or_default().trim_matches(['[', ']']);
        let default = if self.url.scheme_str() == Some("mqtt") { 1883 } else { 80 };
        let port = self.url.port_u16().unwrap_or(default);
        let connecting = TcpStream::connect((host, port));
        let why = match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(Ok(_)) => None,
            Ok(Err(e)) => Some(e.to_string()),
            Err(_) => Some("timeout".into()),
        };
        let mut known = self.reachability.lock().unwrap_or_else(PoisonError::into_inner);
        let now = match (why, &*known) {
            (None, Reachability::Up) | (Some(_), Reachability::Down { .. }) => return None,
            (None, _) => Reachability::Up,
            (Some(why), _) => Reachability::Down { since: SystemTime::now(), why },
        };
        *known = now.clone();
        Some(now)
    }

    /// Returns its address.
    pub fn url(&self) -> &Uri {
        &self.url
    }

    /// Sends a request and reads the response. The text of an error is for the log.
    async fn ask(&self, request: &RequestPrimitive) -> Result<ResponsePrimitive, String> {
        match &self.binding {
            UpstreamBinding::Http(http) => http.ask(request).await,
            UpstreamBinding::Mqtt(mqtt) => Box::pin(mqtt.ask(request)).await,
        }
    }

    /// Handles a request. Always returns a response.
    pub async fn handle(&self, request: RequestPrimitive, timeout: Duration) -> ResponsePrimitive {
        self.try_handle(request, timeout).await.response
    }

    /// Handles a request, and returns whether the CSE responded.
    pub async fn try_handle(&self, request: RequestPrimitive, timeout: Duration) -> Outcome {
        let refuse = |rsc, why: &str| {
            let release = request.release.as_deref();
            ResponsePrimitive::refusal(&request.request_id, release, rsc, why)
        };
        let url = &self.url;
        let response = match tokio::time::timeout(timeout, self.ask(&request)).await {
            Ok(Ok(response)) => {
                // The originator matches the response by its own identifier.
                let response = ResponsePrimitive { request_id: request.request_id, ..response };
                return Outcome { response, is_answered: true };
            }
            Ok(Err(why)) => {
                tracing::warn!(event = "upstream.failed", "the CSE at {url}: {why}");
                refuse(Rsc::TargetNotReachable, "the CSE cannot be reached")
            }
            Err(_) => {
                tracing::warn!(event = "upstream.failed", "the CSE at {url}: timeout");
                refuse(Rsc::RequestTimeout, "the CSE timed out")
            }
        };
        Outcome { response, is_answered: false }
    }
}
