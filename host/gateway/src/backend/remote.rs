//! Upstream CSE as the backend, over the HTTP binding without TLS.

use std::time::Duration;

use http::header::HOST;
use http::{HeaderValue, Uri};
use http_body_util::Full;
use saegis_client::PlainHttp;
use saegis_onem2m::http::{read_response, write_request};
use saegis_onem2m::id::CseId;
use saegis_onem2m::primitive::{RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::rsc::Rsc;

use super::outcome::Outcome;

/// Upstream CSE.
pub struct RemoteBackend {
    connections: PlainHttp,
    url: Uri,
    /// Host of the requests.
    host: HeaderValue,
    cse: CseId,
}

impl RemoteBackend {
    /// Creates the backend of the CSE `cse`, whose HTTP binding is at `url`: a scheme and an
    /// authority. Must be called within a Tokio runtime.
    pub fn new(url: Uri, cse: CseId, content_bytes: usize) -> Self {
        let host = url.authority().and_then(|a| HeaderValue::from_str(a.as_str()).ok());
        let host = host.unwrap_or_else(|| HeaderValue::from_static(""));
        Self { connections: PlainHttp::new(&url, content_bytes), url, host, cse }
    }

    /// Sends a request and reads the response. The text of an error is for the log.
    async fn ask(&self, request: &RequestPrimitive) -> Result<ResponsePrimitive, String> {
        let mut request = write_request(request, &self.cse).map_err(|e| e.to_string())?;
        request.headers_mut().insert(HOST, self.host.clone());
        let (parts, body) = self.connections.ask(request.map(Full::new)).await?;
        read_response(parts.status, &parts.headers, body).map_err(|e| e.to_string())
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
