//! Reads responses of the HTTP binding with a bound on their size.

use http::response::Parts;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use saegis_onem2m::http::read_response;
use saegis_onem2m::primitive::ResponsePrimitive;

/// Reads a complete response with at most `max_content` bytes of content.
///
/// # Errors
/// Returns the reason why the response cannot be read, for the log.
pub async fn collect(
    response: http::Response<Incoming>,
    max_content: usize,
) -> Result<(Parts, bytes::Bytes), String> {
    let (parts, body) = response.into_parts();
    match Limited::new(body, max_content).collect().await {
        Ok(body) => Ok((parts, body.to_bytes())),
        Err(e) if e.is::<LengthLimitError>() => Err("the response is too large".into()),
        Err(e) => Err(format!("the response is incomplete: {e}")),
    }
}

/// Reads a response primitive with at most `max_content` bytes of content.
///
/// # Errors
/// Returns the reason why there is no response primitive, for the log.
pub async fn read(
    response: http::Response<Incoming>,
    max_content: usize,
) -> Result<ResponsePrimitive, String> {
    let (parts, body) = collect(response, max_content).await?;
    read_response(parts.status, &parts.headers, body).map_err(|e| e.to_string())
}
