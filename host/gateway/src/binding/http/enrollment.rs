//! Enrollment over Secure Transport (RFC 7030): requests and responses over HTTP.

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Response, StatusCode};
use saegis_est::{MAX_REQUEST, Operation, Refusal, route};

use crate::listener::http_body::NotCollected;

/// RFC 8951 deprecates the header, and older clients expect it.
const TRANSFER_ENCODING: HeaderName = HeaderName::from_static("content-transfer-encoding");

/// Returns the operation of a request with its content.
pub fn read(
    parts: &Parts,
    content: Result<Bytes, NotCollected>,
) -> Result<(Operation, Bytes), Refusal> {
    let operation = route(parts)?;
    match content {
        Ok(content) => Ok((operation, content)),
        Err(NotCollected::TooLarge) => {
            let why = format!("the request is larger than {MAX_REQUEST} bytes");
            Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, why))
        }
        Err(NotCollected::BreaksOff) => {
            Err(Refusal::new(StatusCode::BAD_REQUEST, "the content is incomplete"))
        }
    }
}

/// Returns the refusal of a request whose content did not arrive in time.
pub fn timed_out() -> Refusal {
    Refusal::new(StatusCode::REQUEST_TIMEOUT, "the content timed out")
}

/// Writes the response.
pub fn write(done: Result<saegis_est::Response, Refusal>) -> Response<Bytes> {
    match done {
        Ok(done) => {
            let mut response = Response::new(Bytes::from(done.content));
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(done.content_type));
            headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("base64"));
            response
        }
        Err(refusal) => {
            let mut response = Response::new(Bytes::from(refusal.why + "\n"));
            *response.status_mut() = refusal.status;
            let headers = response.headers_mut();
            let plain = HeaderValue::from_static("text/plain; charset=utf-8");
            headers.insert(CONTENT_TYPE, plain);
            if let Some(method) = refusal.allow {
                headers.insert(ALLOW, HeaderValue::from_static(method));
            }
            if let Some(seconds) = refusal.retry_after {
                headers.insert(RETRY_AFTER, seconds.into());
            }
            response
        }
    }
}
