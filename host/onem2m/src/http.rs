//! The HTTP binding (TS-0009): conversion between HTTP messages and primitives.
//!
//! Each message is parsed once. Only the primitive leaves this module, so an unparsed part of a
//! request cannot reach an upstream CSE.

use bytes::Bytes;
use http::header::{ACCEPT, ALLOW, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, StatusCode, Uri, Version};

use crate::parameter::{Parameter, Parameters};
use crate::primitive::{Content, Operation, RequestPrimitive, ResponsePrimitive};
use crate::resource::ResourceType;
use crate::rsc::Rsc;
use crate::target::Target;

/// Header field of From.
pub const ORIGIN: &str = "x-m2m-origin";
/// Header field of Request Identifier.
pub const REQUEST_ID: &str = "x-m2m-ri";
/// Header field of Release Version Indicator.
pub const RELEASE: &str = "x-m2m-rvi";
/// Header field of Response Status Code.
pub const STATUS: &str = "x-m2m-rsc";

/// Media type of content in JSON.
pub const JSON: &str = "application/json";
/// Media types of JSON content that oneM2M registered.
const RES_JSON: &str = "application/vnd.onem2m-res+json";
const NTFY_JSON: &str = "application/vnd.onem2m-ntfy+json";

/// Header fields of request parameters (TS-0009 clause 6.4).
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

/// Header fields of response parameters.
const RESPONSE_PARAMETERS: [(&str, Parameter); 7] = [
    ("x-m2m-ot", Parameter::OriginatingTimestamp),
    ("x-m2m-rst", Parameter::ResultExpiration),
    ("x-m2m-ec", Parameter::EventCategory),
    ("x-m2m-cts", Parameter::ContentStatus),
    ("x-m2m-cto", Parameter::ContentOffset),
    ("x-m2m-vsi", Parameter::VendorInformation),
    ("x-m2m-ati", Parameter::AssignedTokenIds),
];

/// Returns the header field of a parameter.
fn field(of: &[(&'static str, Parameter)], parameter: Parameter) -> Option<&'static str> {
    of.iter().find(|(_, p)| *p == parameter).map(|(field, _)| *field)
}

/// Maximum length of the header field value of a parameter, in bytes.
const MAX_VALUE: usize = 1024;
/// Maximum length of a query string, in bytes.
pub const MAX_QUERY: usize = 2048;
/// The filter criterion that has media types (contentType).
const MEDIA_TYPES: &str = "cty";
/// Maximum number of parameters in a query string.
const MAX_QUERY_PARAMETERS: usize = 32;

/// The error for a message that is not a primitive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct BindingError {
    /// Response Status Code of the refusal.
    pub rsc: Rsc,
    /// Request Identifier, if it could be read.
    pub request_id: Option<String>,
    /// Reason.
    pub why: String,
}

fn bad(why: impl Into<String>) -> BindingError {
    BindingError { rsc: Rsc::BadRequest, request_id: None, why: why.into() }
}

/// Parses a request.
///
/// # Errors
/// Returns the reason why it is not a request primitive, and the Response Status Code of the
/// refusal.
pub fn read_request(
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    body: Bytes,
) -> Result<RequestPrimitive, BindingError> {
    // Read first, because every refusal that follows repeats it (TS-0004 clause 7.3.2).
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
                ..bad(format!("the method {method} is not mapped to an operation"))
            });
        }
    };
    accept(headers)?;
    let content = match (body.is_empty(), media) {
        (true, _) => None,
        (false, None) => return Err(unsupported("content without a Content-Type")),
        (false, Some(_)) => Some(Content::parse(body).map_err(|e| bad(e.to_string()))?),
    };
    // Policy decides by the resource type, and the CSE creates the content. The two must agree.
    let differs = |kind: ResourceType, content: &Content| {
        content.is_of(kind) != (resource_type == Some(kind.number()))
    };
    if let Some(content) = &content
        && operation == Operation::Create
        && [ResourceType::Ae, ResourceType::AeAnnc].into_iter().any(|kind| differs(kind, content))
    {
        return Err(bad("the content is not of the resource type in ty"));
    }
    // A create without a type must not reach an AE as a notification and be answered with 2000. The
    // originators in a notification are not checked, because it creates nothing.
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
    // A POST has its resource type in the Content-Type and its creator in the content. It has no
    // filter criteria, in which the same names would be conditions.
    let elsewhere = |name: &str| NOT_IN_QUERY_OF_POST.iter().any(|n| n.eq_ignore_ascii_case(name));
    if post && let Some((name, _)) = options.iter().find(|(name, _)| elsewhere(name)) {
        return Err(bad(format!(
            "the query string of a POST has {name}, which belongs in the Content-Type or the content"
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

/// Parses a request as a server receives it, and checks its Host.
///
/// # Errors
/// Returns the reason why it is not a request primitive, and the Response Status Code of the
/// refusal.
pub fn read_server_request(parts: &Parts, body: Bytes) -> Result<RequestPrimitive, BindingError> {
    let request = read_request(&parts.method, &parts.uri, &parts.headers, body)?;
    match check_host(parts.version, &parts.headers) {
        Ok(()) => Ok(request),
        Err(e) => Err(BindingError { request_id: Some(request.request_id), ..e }),
    }
}

/// Creates the HTTP request that carries `request` to the CSE `at`.
///
/// # Errors
/// Returns an error if a value is not valid in a header field. A primitive from [`read_request`]
/// has no such value.
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

/// Parses a response of another CSE. A response with the status 204 and nothing else answers a
/// request with the Response Type noResponse: it was accepted, and no result follows.
///
/// # Errors
/// Returns the reason why it is not a response primitive, for the log.
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
            .map_err(|e| bad(format!("the response's content is not JSON: {e}")))?;
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

/// Creates the HTTP response that carries `response`.
#[must_use]
pub fn write_response(response: ResponsePrimitive) -> http::Response<Bytes> {
    let mut out = http::Response::new(response.content.unwrap_or_default());
    *out.status_mut() = StatusCode::from_u16(response.rsc.http_status())
        .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = out.headers_mut();
    headers.insert(STATUS, HeaderValue::from(response.rsc.code()));
    // A value that is not valid in a header field cannot come from a request that was parsed here.
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

/// Creates the HTTP response of a server to a request with this operation.
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

/// Returns the value of a header field that may occur once: visible ASCII and spaces, bounded.
fn single<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, BindingError> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(bad(format!("the header {name} occurs more than once")));
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

/// Rejects header fields with underscores. A server behind the gateway may read `X_M2M_Origin` as
/// `X-M2M-Origin`. The gateway never forwards such a field, and only an attacker has a reason to
/// send it.
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
                    let number = value.parse().map_err(|_| bad("ty is not a resource type"))?;
                    if resource_type.replace(number).is_some() {
                        return Err(bad("ty occurs more than once"));
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
            ..bad(format!("responses are only available as {JSON}"))
        });
    }
    Ok(())
}

/// Characters that are escaped in a written query string: all but the unreserved ones. A `+` in a
/// value is escaped too, because a bare one separates the elements of a list.
const QUERY: &percent_encoding::AsciiSet =
    &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Parameters that are carried in header fields or in the path. A CSE could prefer the value in the
/// query string to the checked one. `op` and `pc` are also attributes of `<request>`, `fr` and `to`
/// of `<authorizationDecision>`, so filters cannot name these.
const NOT_IN_QUERY: [&str; 6] = ["fr", "to", "op", "rqi", "rvi", "pc"];

/// Attributes that are filter conditions in other requests (TS-0009 clause 6.2.2.2). In a POST, a
/// CSE could use them as the creator, the name or the type of the new resource.
const NOT_IN_QUERY_OF_POST: [&str; 3] = ["ty", "cr", "aei"];

/// Parses a query string into names and values, each a list with the separator `+` (TS-0009 clause
/// 6.2.2.2).
///
/// The string is split before it is decoded, so an escaped `+` belongs to an element. A list has at
/// least one element, which may be empty.
///
/// # Errors
/// Returns an error if the query string is too long, is not UTF-8, or has a parameter that belongs
/// in a header field.
pub fn read_query(text: &str) -> Result<Vec<(String, Vec<String>)>, BindingError> {
    if text.len() > MAX_QUERY {
        return Err(bad(format!("the query string is longer than {MAX_QUERY} bytes")));
    }
    let decode = |part: &str| {
        let decoded = percent_encoding::percent_decode_str(part).decode_utf8();
        decoded.map(String::from).map_err(|_| bad("the query string is not UTF-8"))
    };
    // XML text, such as a SPARQL query, has line breaks and tabs. `write_request` escapes them.
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
            return Err(bad(format!(
                "the query string has {name}, which belongs in a header field or the path"
            )));
        }
        let value = if name == MEDIA_TYPES { whole_media_types(value) } else { value };
        pairs.push((name, value));
    }
    if pairs.len() > MAX_QUERY_PARAMETERS {
        return Err(bad(format!("the query string has over {MAX_QUERY_PARAMETERS} parameters")));
    }
    Ok(pairs)
}

/// Rejoins media types that were split as lists, because many clients do not escape the `+`, as in
/// `image/svg+xml`. A part without a slash continues the one before it.
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

/// Creates the HTTP request that carries a notification to a URL (TS-0009 clause 6.2).
///
/// # Errors
/// Returns an error if a value is not valid in a header field.
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

/// Checks that a request of HTTP/1.1 has one valid Host (RFC 9112 clause 3.2).
fn check_host(version: Version, headers: &HeaderMap) -> Result<(), BindingError> {
    match single(headers, HOST.as_str())? {
        None if version < Version::HTTP_11 => Ok(()),
        None => Err(bad("the header Host is missing, which HTTP/1.1 requires (RFC 9112)")),
        // A target without an authority has an empty Host.
        Some("") => Ok(()),
        Some(host) => match host.parse::<http::uri::Authority>() {
            Ok(authority) if !authority.as_str().contains('@') => Ok(()),
            _ => {
                Err(bad("the header Host is not a host name or an address, with or without a port"))
            }
        },
    }
}

/// Returns the value of the header field Allow (RFC 9110 clause 15.5.6) of a response with the
/// status 405: the methods of the binding, without that of the refused operation.
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
