//! The HTTP binding (TS-0009): conversion between HTTP messages and primitives.
//!
//! Each message is parsed once. Only the primitive leaves this module, so an unparsed part of a
//! request cannot reach an upstream CSE.

mod headers;
mod query;

use bytes::Bytes;
use http::header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, StatusCode, Uri};

pub use crate::binding::BindingError;
use crate::binding::{bad, check_content, unsupported};
use crate::parameter::Parameter;
use crate::primitive::{Operation, RequestPrimitive, ResponsePrimitive};
use crate::rsc::Rsc;
use crate::serialization::Serialization;
use crate::target::Target;
pub use headers::JSON;
use headers::{
    CBOR, CBOR_OR_JSON, MediaType, NTFY_CBOR, accept, allowed_methods, check_host, named,
    of_content, refuse_lookalikes, single,
};
pub use query::read_query;

/// Header field of From.
pub const ORIGIN: &str = "x-m2m-origin";
/// Header field of Request Identifier.
pub const REQUEST_ID: &str = "x-m2m-ri";
/// Header field of Release Version Indicator.
pub const RELEASE: &str = "x-m2m-rvi";
/// Header field of Response Status Code.
pub const STATUS: &str = "x-m2m-rsc";

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
    let operation = read_operation(method, resource_type)?;
    accept(headers)?;
    let content = match (body.is_empty(), media) {
        (true, _) => None,
        (false, None) => return Err(unsupported("content without a Content-Type")),
        (false, Some(media)) => Some(media.serialization.read_content(body)?),
    };
    // A create without a type must not reach an AE as a notification and be answered with 2000. The
    // originators in a notification are not checked, because it creates nothing.
    if operation == Operation::Notify && content.as_ref().is_some_and(|c| !c.is_notified()) {
        return Err(bad("a POST without a resource type (;ty= in the Content-Type, as in \
             application/json;ty=3) is a notification: its content is m2m:sgn, m2m:agn, m2m:seci \
             or m2m:rsp"));
    }
    check_content(operation, resource_type, content.as_ref())?;
    let query = uri.query().unwrap_or_default();
    let options = if post { query::read_of_post(query) } else { read_query(query) }?;
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
        roles: Vec::new(),
        tokens: Vec::new(),
    })
}

/// Returns the operation of a method. A POST with a resource type is a create.
fn read_operation(method: &Method, resource_type: Option<u16>) -> Result<Operation, BindingError> {
    match *method {
        Method::POST if resource_type.is_some() => Ok(Operation::Create),
        Method::POST => Ok(Operation::Notify),
        Method::GET => Ok(Operation::Retrieve),
        Method::PUT => Ok(Operation::Update),
        Method::DELETE => Ok(Operation::Delete),
        _ => Err(BindingError {
            rsc: Rsc::OperationNotAllowed,
            ..bad(format!("the method {method} is not mapped to an operation"))
        }),
    }
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
        path.extend(percent_encoding::utf8_percent_encode(name, query::QUERY));
        path.push('=');
        for (i, element) in value.iter().enumerate() {
            path.push_str(if i == 0 { "" } else { "+" });
            path.extend(percent_encoding::utf8_percent_encode(element, query::QUERY));
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

/// Parses a response of another CSE or of an AE, whose content becomes JSON. A response with the status 204 and nothing else answers a
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
    let content =
        if body.is_empty() { None } else { Some(of_content(headers).read_response_content(body)?) };
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

/// Returns the serialization of a response to a request with these header fields: that of Accept, or
/// else of the content of the request.
#[must_use]
pub fn response_serialization(headers: &HeaderMap) -> Serialization {
    accept(headers).unwrap_or_default()
}

/// Creates the HTTP response of a server to a request with this operation, with content in this
/// serialization.
#[must_use]
pub fn write_server_response(
    response: ResponsePrimitive,
    operation: Option<Operation>,
    serialization: Serialization,
) -> http::Response<Bytes> {
    let mut response = write_response(response);
    if serialization == Serialization::Cbor
        && !response.body().is_empty()
        && let Ok(cbor) = serialization.from_json(response.body().clone())
    {
        *response.body_mut() = cbor;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(CBOR));
    }
    if response.status() == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(ALLOW, allowed_methods(operation));
    }
    response
}

/// Creates the HTTP request that carries a notification to a URL (TS-0009 clause 6.2), with an Event
/// Category if it has one. The content has this serialization.
///
/// # Errors
/// Returns an error if a value is not valid in a header field.
pub fn write_notification(
    url: &Uri,
    from: &str,
    request_id: &str,
    release: &str,
    category: Option<u16>,
    (serialization, content): (Serialization, Bytes),
) -> Result<http::Request<Bytes>, http::Error> {
    let (accept, media) = match serialization {
        Serialization::Json => (JSON, JSON),
        Serialization::Cbor => (CBOR_OR_JSON, NTFY_CBOR),
    };
    let mut request = http::Request::builder()
        .method(Method::POST)
        .uri(url.clone())
        .header(ORIGIN, from)
        .header(REQUEST_ID, request_id)
        .header(RELEASE, release)
        .header(ACCEPT, accept)
        .header(CONTENT_TYPE, media);
    if let Some(category) = category {
        request = request.header("x-m2m-ec", category);
    }
    request.body(content)
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
