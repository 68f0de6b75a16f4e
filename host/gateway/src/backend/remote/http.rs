//! Upstream CSE over the HTTP binding (TS-0009).

use http::header::HOST;
use http::{HeaderValue, Uri};
use saegis_client::PlainHttp;
use saegis_onem2m::http::{read_response, write_request};
use saegis_onem2m::id::CseId;
use saegis_onem2m::primitive::{RequestPrimitive, ResponsePrimitive};

/// Client of the HTTP binding of a CSE.
pub(super) struct HttpUpstream {
    connections: PlainHttp,
    /// Host of the requests.
    host: HeaderValue,
    cse: CseId,
}

impl HttpUpstream {
    /// Creates a client without connections.
    pub(super) fn new(url: &Uri, cse: CseId, content_bytes: usize) -> Self {
        let host = url.authority().and_then(|a| HeaderValue::from_str(a.as_str()).ok());
        let host = host.unwrap_or_else(|| HeaderValue::from_static(""));
        Self { connections: PlainHttp::new(url, content_bytes), host, cse }
    }

    /// Sends a request and reads the response.
    pub(super) async fn ask(
        &self,
        request: &RequestPrimitive,
    ) -> Result<ResponsePrimitive, String> {
        let mut request = write_request(request, &self.cse).map_err(|e| e.to_string())?;
        request.headers_mut().insert(HOST, self.host.clone());
        let response = self.connections.ask(&request).await?;
        read_response(response.status, &response.headers, response.content)
            .map_err(|e| e.to_string())
    }
}
