//! Reads responses of the HTTP binding within a bound.

use http::response::Parts;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use saegis_onem2m::http::read_response;
use saegis_onem2m::primitive::ResponsePrimitive;

/// Reads a response whole, with at most `max_content` bytes of content.
///
/// # Errors
/// Why it is not read, in words for the log.
pub async fn collect(
    response: http::Response<Incoming>,
    max_content: usize,
) -> Result<(Parts, bytes::Bytes), String> {
    let (parts, body) = response.into_parts();
    match Limited::new(body, max_content).collect().await {
        Ok(body) => Ok((parts, body.to_bytes())),
        Err(e) if e.is::<LengthLimitError>() => Err("the answer is too large".into()),
        Err(e) => Err(format!("the answer breaks off: {e}")),
    }
}

/// Reads a response primitive, with at most `max_content` bytes of content.
///
/// # Errors
/// Why there is none, in words for the log.
pub async fn read(
    response: http::Response<Incoming>,
    max_content: usize,
) -> Result<ResponsePrimitive, String> {
    let (parts, body) = collect(response, max_content).await?;
    read_response(parts.status, &parts.headers, body).map_err(|e| e.to_string())
}
