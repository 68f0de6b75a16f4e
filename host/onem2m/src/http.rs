//! The HTTP binding (TS-0009): header fields and paths to primitives and back.
//!
//! What is read here is read once. Nothing of an HTTP request outlives this module but the
//! primitive, so nothing that was not understood can reach an upstream.

use bytes::Bytes;
use http::header::{ACCEPT, ALLOW, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, StatusCode, Uri, Version};

use crate::parameter::{Parameter, Parameters};
use crate::primitive::{Content, Operation, RequestPrimitive, ResponsePrimitive};
use crate::resource::ResourceType;
use crate::rsc::Rsc;
use crate::target::Target;

/// From.
pub const ORIGIN: &str = "x-m2m-origin";
/// Request Identifier.
pub const REQUEST_ID: &str = "x-m2m-ri";
/// Release Version Indicator.
pub const RELEASE: &str = "x-m2m-rvi";
/// Response Status Code.
pub const STATUS: &str = "x-m2m-rsc";

/// The media type of a primitive's content in JSON.
pub const JSON: &str = "application/json";
/// The same, by its registered name.
const RES_JSON: &str = "application/vnd.onem2m-res+json";
const NTFY_JSON: &str = "application/vnd.onem2m-ntfy+json";

/// Header fields of the parameters of a request (TS-0009 clause 6.4).
const REQUEST_PARAMETERS: [(&str, Parameter); 11] = [
    ("x-m2m-ot", Parameter::OriginatingTimestamp),
    ("x-m2m-rst", Parameter::ResultExpiration),
    ("x-m2m-ret", Parameter::RequestExpiration),
    ("x-m2m-oet", Parameter::ExecutionTime),
    ("x-m2m-ec", Parameter::EventCategory),
    ("x-m2m-gid", Parameter::GroupRequestId),
    ("x-m2m-rtu", Parameter::ResponseTargets),
    ("x-m2m-vsi", Parameter::VendorInformation),
    ("x-m2m-as", Parameter::AuthorizationSignatures),
    ("x-m2m-asri", Parameter::SignatureRequest),
    ("authorization", Parameter::Tokens),
];

/// Header fields of the parameters of a response.
const RESPONSE_PARAMETERS: [(&str, Parameter); 7] = [
    ("x-m2m-ot", Parameter::OriginatingTimestamp),
    ("x-m2m-rst", Parameter::ResultExpiration),
    ("x-m2m-ec", Parameter::EventCategory),
    ("x-m2m-cts", Parameter::ContentStatus),
    ("x-m2m-cto", Parameter::ContentOffset),
    ("x-m2m-vsi", Parameter::VendorInformation),
    ("x-m2m-ati", Parameter::AssignedTokenIds),
];

/// The header field of a parameter.
fn field(of: &[(&'static str, Parameter)], parameter: Parameter) -> Option<&'static str> {
    of.iter().find(|(_, p)| *p == parameter).map(|(field, _)| *field)
}

/// Longest header field value of a parameter, in bytes.
const MAX_VALUE: usize = 1024;
/// Longest query string, in bytes.
pub const MAX_QUERY: usize = 2048;
/// The criterion that takes media types (contentType).
const MEDIA_TYPES: &str = "cty";
/// Most parameters in a query string.
const MAX_QUERY_PARAMETERS: usize = 32;

/// A message that is no primitive: the code to answer with, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct BindingError {
    /// The code to answer with.
    pub rsc: Rsc,
    /// The Request Identifier, where one could be read.
    pub request_id: Option<String>,
    /// What is wrong.
    pub why: String,
}

fn bad(why: impl Into<String>) -> BindingError {
    BindingError { rsc: Rsc::BadRequest, request_id: None, why: why.into() }
}

/// Reads a request.
///
/// # Errors
/// Why it is no request primitive, with the code to answer.
pub fn read_request(
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    body: Bytes,
) -> Result<RequestPrimitive, BindingError> {
    // Read first: every refusal that follows repeats it (TS-0004 clause 7.3.2).
    let request_id = single(headers, REQUEST_ID)?;
    let with_id = |mut e: BindingError| {
        e.request_id = request_id.map(Into::into);
        e
    };
    let request = request_parts(method, uri, headers, body).map_err(with_id)?;
    match request_id {
        Some(id) if !id.is_empty() => Ok(RequestPrimitive { request_id: id.into(), ..request }),
        _ => Err(bad("the header X-M2M-RI is missing")),
    }
}

fn request_parts(
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    body: Bytes,
) -> Result<RequestPrimitive, BindingError> {
    refuse_lookalikes(headers)?;
    let to = Target::from_path(uri.path()).map_err(|e| bad(e.to_string()))?;
    let media = single(headers, CONTENT_TYPE.as_str())?.map(MediaType::read).transpose()?;
    let post = *method == Method::POST;
    let resource_type = media.as_ref().and_then(|m| m.resource_type).filter(|_| post);
    let operation = match *method {
        Method::POST if resource_type.is_some() => Operation::Create,
        Method::POST => Operation::Notify,
        Method::GET => Operation::Retrieve,
        Method::PUT => Operation::Update,
        Method::DELETE => Operation::Delete,
        _ => {
            return Err(BindingError {
                rsc: Rsc::OperationNotAllowed,
                ..bad(format!("the method {method} stands for no operation"))
            });
        }
    };
    accept(headers)?;
    let content = match (body.is_empty(), media) {
        (true, _) => None,
        (false, None) => return Err(unsupported("content without a Content-Type")),
        (false, Some(_)) => Some(Content::parse(body).map_err(|e| bad(e.to_string()))?),
    };
    // What policy is asked about by the one must not be created by the other.
    let differs = |kind: ResourceType, content: &Content| {
        content.is_of(kind) != (resource_type == Some(kind.number()))
    };
    if let Some(content) = &content
        && operation == Operation::Create
        && [ResourceType::Ae, ResourceType::AeAnnc].into_iter().any(|kind| differs(kind, content))
    {
        return Err(bad("the content is not of the resource type that ty says"));
    }
    // A create that lacks its type must not reach an AE as a notification and be answered with 2000;
    // and the originators that a notification names are not checked, for it creates nothing.
    let is_notified = content.as_ref().is_some_and(Content::is_notified);
    if operation == Operation::Notify && content.is_some() && !is_notified {
        return Err(bad("a POST without a resource type (;ty= in the Content-Type, as in \
             application/json;ty=3) is a notification: its content is m2m:sgn, m2m:agn, m2m:seci \
             or m2m:rsp"));
    }
    if operation != Operation::Notify && is_notified {
        return Err(bad(
            "m2m:sgn, m2m:agn, m2m:seci and m2m:rsp are contents of notifications, not \
             resources",
        ));
    }
    match (operation, content.is_some()) {
        (Operation::Create | Operation::Update | Operation::Notify, false) => {
            return Err(bad(format!("a {} needs content", operation.name())));
        }
        (Operation::Retrieve | Operation::Delete, true) => {
            return Err(bad(format!("a {} has no content", operation.name())));
        }
        _ => {}
    }
    let options = read_query(uri.query().unwrap_or_default())?;
    // A POST is a create by the type in its Content-Type, and names its creator in its content. It has
    // no filter in which the same names would be conditions.
    let elsewhere = |name: &str| NOT_IN_QUERY_OF_POST.iter().any(|n| n.eq_ignore_ascii_case(name));
    if post && let Some((name, _)) = options.iter().find(|(name, _)| elsewhere(name)) {
        return Err(bad(format!(
            "the query string of a POST has {name}, whose place is the Content-Type or the content"
        )));
    }
    let parameters = named(headers, &REQUEST_PARAMETERS)?;
    Ok(RequestPrimitive {
        operation,
        to,
        from: single(headers, ORIGIN)?.map(Into::into),
        request_id: String::new(),
        release: single(headers, RELEASE)?.map(Into::into),
        resource_type,
        content,
        options,
        parameters,
        source_address: None,
        credential: None,
    })
}

/// Reads a request as a server receives it, with its Host.
///
/// # Errors
/// Why it is no request primitive, with the code to answer.
pub fn read_server_request(parts: &Parts, body: Bytes) -> Result<RequestPrimitive, BindingError> {
    let request = read_request(&parts.method, &parts.uri, &parts.headers, body)?;
    match check_host(parts.version, &parts.headers) {
        Ok(()) => Ok(request),
        Err(e) => Err(BindingError { request_id: Some(request.request_id), ..e }),
    }
}

/// The parts of the HTTP request that carries `request` to the CSE `at`.
///
/// # Errors
/// When a value can't stand in a header field; a primitive read by [`read_request`] has none.
pub fn write_request(
    request: &RequestPrimitive,
    at: &crate::id::CseId,
) -> Result<http::Request<Bytes>, http::Error> {
    let method = match request.operation {
        Operation::Create | Operation::Notify => Method::POST,
        Operation::Retrieve => Method::GET,
        Operation::Update => Method::PUT,
        Operation::Delete => Method::DELETE,
    };
    let mut path = request.to.to_path(at);
    for (i, (name, value)) in request.options.iter().enumerate() {
        path.push(if i == 0 { '?' } else { '&' });
        path.extend(percent_encoding::utf8_percent_encode(name, QUERY));
        path.push('=');
        for (i, element) in value.iter().enumerate() {
            path.push_str(if i == 0 { "" } else { "+" });
            path.extend(percent_encoding::utf8_percent_encode(element, QUERY));
        }
    }
    let mut builder = http::Request::builder()
        .method(method)
        .uri(path)
        .header(REQUEST_ID, &request.request_id)
        .header(ACCEPT, JSON);
    if let Some(from) = &request.from {
        builder = builder.header(ORIGIN, from);
    }
    if let Some(release) = &request.release {
        builder = builder.header(RELEASE, release);
    }
    for (parameter, value) in request.parameters.iter() {
        if let Some(field) = field(&REQUEST_PARAMETERS, parameter) {
            builder = builder.header(field, value);
        }
    }
    let body = match &request.content {
        None => Bytes::new(),
        Some(content) => {
            let media = match request.resource_type {
                Some(ty) => format!("{JSON};ty={ty}"),
                None => JSON.into(),
            };
            builder = builder.header(CONTENT_TYPE, media);
            content.bytes().clone()
        }
    };
    builder.body(body)
}

/// Reads a response of another CSE. One with the status 204 and nothing else answers a request
/// whose Response Type was noResponse: it was taken, and no more is told.
///
/// # Errors
/// What is wrong with it, in words for the log.
pub fn read_response(
    status: StatusCode,
    headers: &HeaderMap,
    body: Bytes,
) -> Result<ResponsePrimitive, BindingError> {
    let rsc = match single(headers, STATUS)? {
        None if status == StatusCode::NO_CONTENT && body.is_empty() => Rsc::Accepted.code(),
        code => {
            code.and_then(|v| v.parse().ok()).ok_or_else(|| bad("the response has no X-M2M-RSC"))?
        }
    };
    let content = if body.is_empty() {
        None
    } else {
        serde_json::from_slice::<serde::de::IgnoredAny>(&body)
            .map_err(|e| bad(format!("the response's content is no JSON: {e}")))?;
        Some(body)
    };
    Ok(ResponsePrimitive {
        rsc: Rsc::from_code(rsc),
        from: single(headers, ORIGIN)?.map(Into::into),
        request_id: single(headers, REQUEST_ID)?.unwrap_or_default().into(),
        release: single(headers, RELEASE)?.map(Into::into),
        content,
        content_location: single(headers, "content-location")?.map(Into::into),
        parameters: named(headers, &RESPONSE_PARAMETERS)?,
    })
}

/// The HTTP response that carries `response`.
#[must_use]
pub fn write_response(response: ResponsePrimitive) -> http::Response<Bytes> {
    let mut out = http::Response::new(response.content.unwrap_or_default());
    *out.status_mut() = StatusCode::from_u16(response.rsc.http_status())
        .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = out.headers_mut();
    headers.insert(STATUS, HeaderValue::from(response.rsc.code()));
    // A value that can't stand in a header field came from no request that was read here.
    let mut put = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    if !response.request_id.is_empty() {
        put(REQUEST_ID, &response.request_id);
    }
    if let Some(release) = &response.release {
        put(RELEASE, release);
    }
    if let Some(location) = &response.content_location {
        put("content-location", location);
    }
    for (parameter, value) in response.parameters.iter() {
        if let Some(field) = field(&RESPONSE_PARAMETERS, parameter) {
            put(field, value);
        }
    }
    if !out.body().is_empty() {
        out.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
    }
    out
}

/// The HTTP response that a server answers a request of that operation with.
#[must_use]
pub fn write_server_response(
    response: ResponsePrimitive,
    operation: Option<Operation>,
) -> http::Response<Bytes> {
    let mut response = write_response(response);
    if response.status() == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(ALLOW, allowed_methods(operation));
    }
    response
}

/// The value of a field that may stand once: visible ASCII and spaces, bounded.
fn single<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, BindingError> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(bad(format!("the header {name} stands more than once")));
    }
    if value.len() > MAX_VALUE {
        return Err(bad(format!("the header {name} is longer than {MAX_VALUE} bytes")));
    }
    match value.to_str() {
        Ok(text) => Ok(Some(text)),
        Err(_) => Err(bad(format!("the header {name} has a character outside ASCII"))),
    }
}

fn named(
    headers: &HeaderMap,
    fields: &[(&'static str, Parameter)],
) -> Result<Parameters, BindingError> {
    let mut found = Parameters::default();
    for &(field, parameter) in fields {
        if let Some(value) = single(headers, field)? {
            found.set(parameter, value);
        }
    }
    Ok(found)
}

/// Servers behind us may read `X_M2M_Origin` as `X-M2M-Origin`. We never pass such a field on,
/// and whoever sends one is up to nothing good.
fn refuse_lookalikes(headers: &HeaderMap) -> Result<(), BindingError> {
    let lookalike = |name: &&HeaderName| {
        let name = name.as_str();
        name.contains('_') && name.replace('_', "-").starts_with("x-m2m-")
    };
    match headers.keys().find(lookalike) {
        Some(name) => Err(bad(format!("the header {name} looks like a oneM2M parameter"))),
        None => Ok(()),
    }
}

struct MediaType {
    resource_type: Option<u16>,
}

impl MediaType {
    fn read(text: &str) -> Result<Self, BindingError> {
        let mut parts = text.split(';').map(str::trim);
        let essence = parts.next().unwrap_or_default();
        if ![JSON, RES_JSON, NTFY_JSON].iter().any(|m| essence.eq_ignore_ascii_case(m)) {
            return Err(unsupported(&format!("content of the type {essence}; use {JSON}")));
        }
        let mut resource_type = None;
        for parameter in parts {
            match parameter.split_once('=').map(|(n, v)| (n.trim(), v.trim())) {
                Some((name, value)) if name.eq_ignore_ascii_case("ty") => {
                    let number = value.parse().map_err(|_| bad("ty is no resource type"))?;
                    if resource_type.replace(number).is_some() {
                        return Err(bad("ty stands more than once"));
                    }
                }
                Some((name, value))
                    if name.eq_ignore_ascii_case("charset")
                        && value.trim_matches('"').eq_ignore_ascii_case("utf-8") => {}
                _ => return Err(unsupported(&format!("content with the parameter {parameter}"))),
            }
        }
        Ok(Self { resource_type })
    }
}

fn unsupported(why: &str) -> BindingError {
    BindingError { rsc: Rsc::UnsupportedMediaType, ..bad(why) }
}

fn accept(headers: &HeaderMap) -> Result<(), BindingError> {
    let mut any = false;
    for value in headers.get_all(ACCEPT) {
        any = true;
        let text = value.to_str().unwrap_or_default();
        let fits = |range: &str| {
            let essence = range.split(';').next().unwrap_or_default().trim();
            ["*/*", "application/*", JSON, RES_JSON, NTFY_JSON]
                .iter()
                .any(|m| essence.eq_ignore_ascii_case(m))
        };
        if text.split(',').any(fits) {
            return Ok(());
        }
    }
    if any {
        return Err(BindingError {
            rsc: Rsc::NotAcceptable,
            ..bad(format!("answers are of the type {JSON} only"))
        });
    }
    Ok(())
}

/// What is escaped in a query string that we write: all but the unreserved characters. A `+` of a
/// value is escaped too, for a bare one separates the elements of a list.
const QUERY: &percent_encoding::AsciiSet =
    &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Parameters of a primitive that have header fields, or a place in the path. In a query string a CSE
/// could take them for what was checked in that place. `op` and `pc` are attributes of `<request>`
/// too, `fr` and `to` of `<authorizationDecision>`: no filter can name these.
const NOT_IN_QUERY: [&str; 6] = ["fr", "to", "op", "rqi", "rvi", "pc"];

/// Attributes that are conditions of a filter in other requests (TS-0009 clause 6.2.2.2), and that a
/// CSE could take for the creator, the name or the type of what a POST creates.
const NOT_IN_QUERY_OF_POST: [&str; 3] = ["ty", "cr", "aei"];

/// Reads a query string: names and their values, each a list whose elements a `+` separates
/// (TS-0009 clause 6.2.2.2). It is split before it is decoded, so an escaped `+` is one of the
/// element. A list has one element at least, which may be empty.
///
/// # Errors
/// When it is longer than it may be, not UTF-8, or says what has another place.
pub fn read_query(text: &str) -> Result<Vec<(String, Vec<String>)>, BindingError> {
    if text.len() > MAX_QUERY {
        return Err(bad(format!("the query string is longer than {MAX_QUERY} bytes")));
    }
    let decode = |part: &str| {
        let decoded = percent_encoding::percent_decode_str(part).decode_utf8();
        decoded.map(String::from).map_err(|_| bad("the query string is not UTF-8"))
    };
    // A text of XML, such as a SPARQL query, has line breaks and tabs; `write_request` escapes them.
    let is_text = |c: char| !c.is_control() || matches!(c, '\t' | '\n' | '\r');
    let mut pairs = Vec::new();
    for pair in text.split('&').filter(|p| !p.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = decode(name)?;
        let value: Vec<String> = value.split('+').map(decode).collect::<Result<_, _>>()?;
        if name.contains(char::is_control) || !value.iter().all(|v| v.chars().all(is_text)) {
            return Err(bad("the query string has a control character"));
        }
        if NOT_IN_QUERY.iter().any(|n| n.eq_ignore_ascii_case(&name)) {
            return Err(bad(format!("the query string has {name}, which has another place")));
        }
        let value = if name == MEDIA_TYPES { whole_media_types(value) } else { value };
        pairs.push((name, value));
    }
    if pairs.len() > MAX_QUERY_PARAMETERS {
        return Err(bad(format!("the query string has over {MAX_QUERY_PARAMETERS} parameters")));
    }
    Ok(pairs)
}

/// Puts media types together again that were taken for a list: many leave the `+` of one unescaped, as
/// in `image/svg+xml`. What has no slash is the rest of the one before it.
fn whole_media_types(parts: Vec<String>) -> Vec<String> {
    let mut whole: Vec<String> = Vec::new();
    for part in parts {
        match whole.last_mut() {
            Some(before) if !part.contains('/') => {
                before.push('+');
                before.push_str(&part);
            }
            _ => whole.push(part),
        }
    }
    whole
}

/// The HTTP request that carries a notification to a URL (TS-0009 clause 6.2).
///
/// # Errors
/// When a value can't stand in a header field.
pub fn write_notification(
    url: &Uri,
    from: &str,
    request_id: &str,
    release: &str,
    content: Bytes,
) -> Result<http::Request<Bytes>, http::Error> {
    http::Request::builder()
        .method(Method::POST)
        .uri(url.clone())
        .header(ORIGIN, from)
        .header(REQUEST_ID, request_id)
        .header(RELEASE, release)
        .header(ACCEPT, JSON)
        .header(CONTENT_TYPE, JSON)
        .body(content)
}

/// Checks that a request of HTTP/1.1 has one Host, and that it is a host (RFC 9112 clause 3.2).
fn check_host(version: Version, headers: &HeaderMap) -> Result<(), BindingError> {
    match single(headers, HOST.as_str())? {
        None if version < Version::HTTP_11 => Ok(()),
        None => Err(bad("the header Host is missing, which HTTP/1.1 requires (RFC 9112)")),
        // A target without an authority has an empty one.
        Some("") => Ok(()),
        Some(host) => match host.parse::<http::uri::Authority>() {
            Ok(authority) if !authority.as_str().contains('@') => Ok(()),
            _ => {
                Err(bad("the header Host is not a host name or an address, with or without a port"))
            }
        },
    }
}

/// The value of the header field Allow (RFC 9110 clause 15.5.6) in an answer with the status 405: the
/// methods of the binding without that of `refused`, where the request had one of them.
fn allowed_methods(refused: Option<Operation>) -> HeaderValue {
    HeaderValue::from_static(match refused {
        None => "GET, POST, PUT, DELETE",
        Some(Operation::Create | Operation::Notify) => "GET, PUT, DELETE",
        Some(Operation::Retrieve) => "POST, PUT, DELETE",
        Some(Operation::Update) => "GET, POST, DELETE",
        Some(Operation::Delete) => "GET, POST, PUT",
    })
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
