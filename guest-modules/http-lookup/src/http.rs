//! A GET by `wasi:http`.

use crate::bindings::wasi::http::outgoing_handler;
use crate::bindings::wasi::http::types::{Fields, IncomingBody, OutgoingRequest, Scheme};
use crate::bindings::wasi::io::streams::StreamError;

/// An answer.
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its content.
    pub content: Vec<u8>,
}

/// Gets what is at an address.
pub fn get(url: &str, token: &str) -> Result<Answer, String> {
    let fields = Fields::new();
    let allowed = fields.append("authorization", format!("Bearer {token}").as_bytes());
    allowed.map_err(|_| "the token can't be sent".to_string())?;
    let request = OutgoingRequest::new(fields);
    let set = address(url).and_then(|(scheme, authority, path)| {
        request.set_scheme(Some(&scheme)).ok()?;
        request.set_authority(Some(authority)).ok()?;
        request.set_path_with_query(Some(path)).ok()
    });
    set.ok_or_else(|| format!("{url} is no address"))?;
    let failed = |e| format!("the key server can't be asked: {e:?}");
    let coming = outgoing_handler::handle(request, None).map_err(failed)?;
    coming.subscribe().block();
    let come = coming.get().and_then(Result::ok).ok_or("the key server gave no answer")?;
    let response = come.map_err(failed)?;
    let body = response.consume().map_err(|()| "the answer has no content".to_string())?;
    Ok(Answer { status: response.status(), content: read(&body)? })
}

fn read(body: &IncomingBody) -> Result<Vec<u8>, String> {
    let stream = body.stream().map_err(|()| "the answer has no content".to_string())?;
    let mut content = Vec::new();
    loop {
        match stream.blocking_read(8192) {
            Ok(bytes) => content.extend(bytes),
            Err(StreamError::Closed) => return Ok(content),
            Err(StreamError::LastOperationFailed(e)) => {
                return Err(format!("the key server's answer: {}", e.to_debug_string()));
            }
        }
    }
}

/// The parts of an address.
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

/// A text as it may stand in a path.
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
