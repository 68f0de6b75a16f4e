//! HTTP binding.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use saegis_onem2m::binding::MAX_OPTION_BYTES;
use saegis_onem2m::http::{
    REQUEST_ID, STATUS, read_request, read_response, write_request, write_response,
};
use saegis_onem2m::id::CseId;
use saegis_onem2m::primitive::{RequestPrimitive, ResponsePrimitive};
use saegis_onem2m::target::{MAX_PATH, Scope};

/// The CSE that requests address.
const CSE: &str = "cse1";

/// Parser of HTTP messages. A parsed request is written as a new request that parses to the same
/// primitive and addresses a resource. An error response names its request. A parsed response is
/// written as a response that parses to the same primitive.
pub fn http_primitive(input: &[u8]) {
    let Some(Message { first, headers, body }) = Message::of(input) else { return };
    if headers.contains_key(STATUS) {
        response(&headers, body);
    } else if let Some((method, uri)) = first.split_once(' ')
        && let (Ok(method), Ok(uri)) = (method.parse(), uri.parse())
    {
        request(&method, &uri, &headers, body);
    }
}

/// A message on the wire, with `
/// ` as line end.
struct Message<'a> {
    first: &'a str,
    headers: HeaderMap,
    body: Bytes,
}

impl<'a> Message<'a> {
    fn of(input: &'a [u8]) -> Option<Self> {
        let mut lines = input.split_inclusive(|&byte| byte == b'\n');
        let mut read = 0;
        let mut next = || {
            let line = lines.next()?;
            read += line.len();
            Some(line.trim_ascii())
        };
        let first = std::str::from_utf8(next()?).ok()?;
        let mut headers = HeaderMap::new();
        while let Some(line) = next().filter(|line| !line.is_empty()) {
            let colon = line.iter().position(|&byte| byte == b':')?;
            let name = HeaderName::from_bytes(line.get(..colon)?).ok()?;
            let value = HeaderValue::from_bytes(line.get(colon + 1..)?.trim_ascii()).ok()?;
            headers.append(name, value);
        }
        Some(Self { first, headers, body: Bytes::copy_from_slice(input.get(read..)?) })
    }
}

fn request(method: &Method, uri: &Uri, headers: &HeaderMap, body: Bytes) {
    let cse = CseId::parse(CSE).expect("it is one");
    let first = match read_request(method, uri, headers, body) {
        Ok(first) => first,
        Err(refusal) => {
            if let Some(id) = request_id(headers) {
                assert_eq!(refusal.request_id.as_deref(), Some(id), "{refusal}");
            }
            let id = refusal.request_id.as_deref().unwrap_or_default();
            let answer = ResponsePrimitive::refusal(id, None, refusal.rsc, &refusal.why);
            let answer = write_response(answer);
            let (headers, body) = (answer.headers(), answer.body().clone());
            let again =
                read_response(answer.status(), headers, body).expect("a refusal is a response");
            assert_eq!((again.request_id.as_str(), again.rsc), (id, refusal.rsc));
            return;
        }
    };
    let (parts, body) = write_request(&first, &cse).expect("what was read is written").into_parts();
    let own = |name: &str| {
        name.starts_with("x-m2m-") || matches!(name, "accept" | "authorization" | "content-type")
    };
    assert!(parts.headers.keys().all(|name| own(name.as_str())), "{:?}", parts.headers);
    assert_eq!(parts.headers.keys_len(), parts.headers.len(), "no header field is repeated");
    let resource = parts.uri.path().strip_prefix("/~/cse1/").expect("a path is SP-relative");
    assert!(resource.split('/').all(is_name), "{resource}");

    let second = match read_request(&parts.method, &parts.uri, &parts.headers, body.clone()) {
        Ok(second) => second,
        // The normalized form is longer: SP-relative and with escapes.
        Err(refusal) => {
            let query = parts.uri.query().unwrap_or_default();
            let longer = parts.uri.path().len() > MAX_PATH || query.len() > MAX_OPTION_BYTES;
            assert!(longer, "what was written is refused: {refusal}");
            return;
        }
    };
    assert_eq!(second.to.scope, Scope::SpRelative(cse.clone()));
    assert_eq!(parts_of(&second), parts_of(&first));
    let (again, same) = write_request(&second, &cse).expect("it is written again").into_parts();
    assert_eq!((again.method, again.uri, again.headers), (parts.method, parts.uri, parts.headers));
    assert_eq!(same, body);
}

/// Returns the Request Identifier, if it may be repeated.
fn request_id(headers: &HeaderMap) -> Option<&str> {
    let mut all = headers.get_all(REQUEST_ID).iter();
    let (first, None) = (all.next()?, all.next()) else { return None };
    first.to_str().ok().filter(|id| (1..=1024).contains(&id.len()))
}

fn is_name(segment: &str) -> bool {
    let unreserved = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
    segment.bytes().all(unreserved) && !matches!(segment, "" | "." | ".." | "~" | "_")
}

/// Returns all of a primitive except the scope of its target, which is normalized.
fn parts_of(r: &RequestPrimitive) -> impl PartialEq + std::fmt::Debug {
    let content = r.content.as_ref().map(|c| (c.bytes(), c.named_originators()));
    let from = (r.operation, &r.to.resource, &r.from, &r.request_id, &r.release);
    (from, r.resource_type, content, &r.options, &r.parameters)
}

fn response(headers: &HeaderMap, body: Bytes) {
    let Ok(first) = read_response(StatusCode::OK, headers, body) else { return };
    let written = write_response(first.clone());
    assert_eq!(
        written.headers().keys_len(),
        written.headers().len(),
        "no header field is repeated"
    );
    let second = read_response(written.status(), written.headers(), written.body().clone());
    let second = second.expect("what was written is read");
    let parts = |r: &ResponsePrimitive| {
        let texts = (r.request_id.clone(), r.release.clone(), r.content_location.clone());
        (r.rsc.code(), texts, r.content.clone(), r.parameters.clone())
    };
    assert_eq!(parts(&second), parts(&first));
}
