//! GET requests over `wasi:http`.

use crate::bindings::wasi::http::outgoing_handler;
use crate::bindings::wasi::http::types::{
    ErrorCode, Fields, IncomingBody, OutgoingRequest, Scheme, http_error_code,
};
use crate::bindings::wasi::io::streams::StreamError;

/// HTTP response.
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its body.
    pub content: Vec<u8>,
}

/// Sends a GET request.
pub fn get(url: &str, token: &str) -> Result<Answer, String> {
    let fields = Fields::new();
    let allowed = fields.append("authorization", format!("Bearer {token}").as_bytes());
    allowed.map_err(|_| "the token is not a valid header field".to_string())?;
    let request = OutgoingRequest::new(fields);
    let set = address(url).and_then(|(scheme, authority, path)| {
        request.set_scheme(Some(&scheme)).ok()?;
        request.set_authority(Some(authority)).ok()?;
        request.set_path_with_query(Some(path)).ok()
    });
    set.ok_or_else(|| format!("{url} is not a valid URL"))?;
    let failed = |e| format!("cannot send a request to the key server: {}", words(&e));
    let coming = outgoing_handler::handle(request, None).map_err(failed)?;
    coming.subscribe().block();
    let come = coming.get().and_then(Result::ok).ok_or("the key server did not respond")?;
    let response = come.map_err(failed)?;
    let body = response.consume().map_err(|()| "the response has no body".to_string())?;
    Ok(Answer { status: response.status(), content: read(&body)? })
}

fn read(body: &IncomingBody) -> Result<Vec<u8>, String> {
    let stream = body.stream().map_err(|()| "the response has no body".to_string())?;
    let mut content = Vec::new();
    loop {
        match stream.blocking_read(8192) {
            Ok(bytes) => content.extend(bytes),
            Err(StreamError::Closed) => return Ok(content),
            Err(StreamError::LastOperationFailed(e)) => {
                let why = http_error_code(&e).map_or("I/O error".into(), |e| words(&e));
                return Err(format!("cannot read the response of the key server: {why}"));
            }
        }
    }
}

/// Returns the name of an error in words, such as `connection refused`, without its details.
fn words(error: &ErrorCode) -> String {
    let name = format!("{error:?}");
    let name = name.trim_start_matches("ErrorCode::");
    let mut words = String::new();
    for c in name.chars().take_while(char::is_ascii_alphanumeric) {
        if c.is_ascii_uppercase() && !words.is_empty() && !words.ends_with(' ') {
            words.push(' ');
        }
        words.push(c.to_ascii_lowercase());
    }
    words
}

/// Returns the parts of a URL.
fn address(url: &str) -> Option<(Scheme, &str, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    let scheme = match scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        _ => return None,
    };
    let path = rest.find('/')?;
    Some((scheme, rest.get(..path)?, rest.get(path..)?))
}

/// Escapes a text for a path.
pub fn escaped(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn identity_is_escaped_as_path_segment() {
        assert_eq!(escaped("lamp-7@a.b"), "lamp-7%40a.b");
        assert_eq!(escaped("../x?y#z é"), "..%2Fx%3Fy%23z%20%C3%A9");
    }
}
