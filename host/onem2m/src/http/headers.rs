//! Header fields of the HTTP binding.

use http::Version;
use http::header::{ACCEPT, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue};

use crate::binding::{BindingError, MAX_TOKENS, MAX_VALUE, bad, unsupported};
use crate::parameter::{Parameter, Parameters};
use crate::primitive::Operation;
use crate::rsc::Rsc;
use crate::serialization::Serialization;

/// Media type of content in JSON.
pub const JSON: &str = "application/json";
/// Media types of JSON content that oneM2M registered.
const RES_JSON: &str = "application/vnd.onem2m-res+json";
const NTFY_JSON: &str = "application/vnd.onem2m-ntfy+json";
/// Media types of content in CBOR. The first one is that of responses, and the second one that of
/// notifications.
pub(super) const CBOR: &str = "application/vnd.onem2m-res+cbor";
pub(super) const NTFY_CBOR: &str = "application/vnd.onem2m-ntfy+cbor";
const PLAIN_CBOR: &str = "application/cbor";

/// Media types of the response to a notification in CBOR.
pub(super) const CBOR_OR_JSON: &str = "application/vnd.onem2m-res+cbor, application/json;q=0.5";

/// Returns the serialization of the content that header fields describe. Unknown content is taken
/// for JSON.
pub(super) fn of_content(headers: &HeaderMap) -> Serialization {
    let media = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = media.and_then(|media| media.split(';').next());
    essence.and_then(|essence| serialization(essence.trim())).unwrap_or_default()
}

/// Returns the serialization of a media type, without its parameters.
fn serialization(essence: &str) -> Option<Serialization> {
    let is_one_of = |types: &[&str]| types.iter().any(|m| essence.eq_ignore_ascii_case(m));
    if is_one_of(&[JSON, RES_JSON, NTFY_JSON]) {
        Some(Serialization::Json)
    } else if is_one_of(&[CBOR, NTFY_CBOR, PLAIN_CBOR]) {
        Some(Serialization::Cbor)
    } else {
        None
    }
}

/// Returns the value of a header field that may occur once: visible ASCII and spaces, bounded.
pub(super) fn single<'a>(
    headers: &'a HeaderMap,
    name: &str,
) -> Result<Option<&'a str>, BindingError> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(bad(format!("the header {name} occurs more than once")));
    }
    let max = if name == "authorization" { MAX_TOKENS } else { MAX_VALUE };
    if value.len() > max {
        return Err(bad(format!("the header {name} is longer than {max} bytes")));
    }
    match value.to_str() {
        Ok(text) => Ok(Some(text)),
        Err(_) => Err(bad(format!("the header {name} has a character outside ASCII"))),
    }
}

/// Returns the parameters of the header fields.
pub(super) fn named(
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
pub(super) fn refuse_lookalikes(headers: &HeaderMap) -> Result<(), BindingError> {
    let lookalike = |name: &&HeaderName| {
        let name = name.as_str();
        name.contains('_') && name.replace('_', "-").starts_with("x-m2m-")
    };
    match headers.keys().find(lookalike) {
        Some(name) => Err(bad(format!("the header {name} looks like a oneM2M parameter"))),
        None => Ok(()),
    }
}

/// Content-Type of a primitive's content.
pub(super) struct MediaType {
    /// Resource type of the new resource.
    pub(super) resource_type: Option<u16>,
    /// Serialization of the content.
    pub(super) serialization: Serialization,
}

impl MediaType {
    /// Parses the value of a Content-Type.
    ///
    /// # Errors
    /// Returns an error if it is not a media type of a primitive's content.
    pub(super) fn read(text: &str) -> Result<Self, BindingError> {
        let mut parts = text.split(';').map(str::trim);
        let essence = parts.next().unwrap_or_default();
        let serialization = serialization(essence).ok_or_else(|| {
            unsupported(format!(
                "content of the type {essence} is not supported, nor is XML; use {JSON} or {CBOR}"
            ))
        })?;
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
                _ => return Err(unsupported(format!("content with the parameter {parameter}"))),
            }
        }
        Ok(Self { resource_type, serialization })
    }
}

/// Returns the serialization that the client accepts, preferably JSON. A client that does not say it gets
/// that of its content.
pub(super) fn accept(headers: &HeaderMap) -> Result<Serialization, BindingError> {
    let mut values = headers.get_all(ACCEPT).iter().peekable();
    if values.peek().is_none() {
        return Ok(of_content(headers));
    }
    let mut accepts_cbor = false;
    for range in values.filter_map(|v| v.to_str().ok()).flat_map(|text| text.split(',')) {
        let essence = range.split(';').next().unwrap_or_default().trim();
        let is_any = ["*/*", "application/*"].iter().any(|m| essence.eq_ignore_ascii_case(m));
        match serialization(essence) {
            Some(Serialization::Json) => return Ok(Serialization::Json),
            Some(Serialization::Cbor) => accepts_cbor = true,
            None if is_any => return Ok(Serialization::Json),
            None => {}
        }
    }
    if accepts_cbor {
        return Ok(Serialization::Cbor);
    }
    Err(BindingError {
        rsc: Rsc::NotAcceptable,
        ..bad(format!("responses are only available as {JSON} and {CBOR}, not as XML"))
    })
}

/// Checks that a request of HTTP/1.1 has one valid Host (RFC 9112 clause 3.2).
pub(super) fn check_host(version: Version, headers: &HeaderMap) -> Result<(), BindingError> {
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
pub(super) fn allowed_methods(refused: Option<Operation>) -> HeaderValue {
    HeaderValue::from_static(match refused {
        None => "GET, POST, PUT, DELETE",
        Some(Operation::Create | Operation::Notify) => "GET, PUT, DELETE",
        Some(Operation::Retrieve) => "POST, PUT, DELETE",
        Some(Operation::Update) => "GET, POST, DELETE",
        Some(Operation::Delete) => "GET, POST, PUT",
    })
}
