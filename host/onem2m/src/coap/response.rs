//! Responses (TS-0008 clauses 6.2.3 and 6.2.4).

use bytes::Bytes;

use super::format::{JSON, ResponseForm, code_of, serialization};
use super::message::Parts;
use super::options::{
    BLOCK1, BLOCK2, CONTENT_FORMAT, LOCATION_PATH, LOCATION_QUERY, MAX_AGE, MAX_TEXT, OneM2m,
    Options, SIZE1, SIZE2, Table, is_critical,
};
use super::parameters::{Refusal, number, put_parameters, read_parameters, text};
use crate::binding::{BindingError, bad};
use crate::parameter::{Parameter, RESPONSE_PARAMETERS};
use crate::primitive::{Operation, ResponsePrimitive};
use crate::rsc::Rsc;
use crate::serialization::Serialization;
use crate::target::Target;

/// Maximum size of a response's content in JSON, in bytes, as a factor of its size in CBOR.
const MAX_EXPANSION: usize = 8;

/// Creates the response to a request with this operation, in the form that it asked for.
///
/// A value that does not fit an option, or that the table has no option for, is omitted. Caches must
/// not use the response (TS-0008 clause 6.4).
#[must_use]
pub fn write_response(
    response: ResponsePrimitive,
    operation: Option<Operation>,
    form: ResponseForm,
) -> Parts {
    let ResponseForm { table, content_format } = form;
    let mut parts = Parts::new(code_of(response.rsc, operation));
    let options = &mut parts.options;
    if let Some(number) = table.number(OneM2m::Status) {
        options.push_uint(number, response.rsc.code().into());
    }
    let mut put = |option, value: &str| {
        if let Some(number) = table.number(option)
            && value.len() <= MAX_TEXT
        {
            options.push_text(number, value);
        }
    };
    if !response.request_id.is_empty() {
        put(OneM2m::RequestId, &response.request_id);
    }
    if let Some(release) = &response.release {
        put(OneM2m::Release, release);
    }
    // Other parameters are written, if one is omitted.
    let _ = put_parameters(&response.parameters, table, options);
    if let Some(location) = response.content_location.as_deref().and_then(address) {
        let segments = location.segments();
        if segments.iter().all(|segment| segment.len() <= MAX_TEXT) {
            segments.iter().for_each(|segment| options.push_text(LOCATION_PATH, segment));
        }
    }
    options.push_uint(MAX_AGE, 0);
    if let Some(content) = response.content.filter(|content| !content.is_empty()) {
        let written = serialization(content_format).unwrap_or_default().from_json(content.clone());
        let (format, payload) = match written {
            Ok(payload) => (content_format, payload),
            Err(_) => (JSON, content),
        };
        options.push_uint(CONTENT_FORMAT, format.into());
        parts.payload = payload;
    }
    parts
}

/// Creates the response to a request that is not a primitive.
#[must_use]
pub fn write_refusal(refusal: &Refusal, form: ResponseForm) -> Parts {
    let BindingError { rsc, request_id, why, .. } = &refusal.error;
    let id = request_id.as_deref().unwrap_or_default();
    let response = ResponsePrimitive::refusal(id, None, *rsc, why);
    Parts { code: refusal.code, ..write_response(response, None, form) }
}

/// Parses the address of a created resource, which is a path or an identifier.
fn address(location: &str) -> Option<Target> {
    let is_path = ["/~/", "/_/"].iter().any(|start| location.starts_with(start));
    let target = if is_path { Target::from_path(location) } else { Target::from_address(location) };
    target.ok()
}

/// Parses a whole response of another CSE, whose blocks were joined. `max_bytes` bounds its content.
///
/// # Errors
/// Returns the reason why it is not a response primitive, for the log.
pub fn read_response(response: &Parts, max_bytes: usize) -> Result<ResponsePrimitive, Refusal> {
    let options = &response.options;
    let table = Table::of(options)?;
    check_known(options, table)?;
    let rsc = number(options, table, OneM2m::Status, 2)?.and_then(|code| u16::try_from(code).ok());
    let rsc = rsc.ok_or_else(|| bad("the response has no option oneM2M-RSC"))?;
    let of_response = RESPONSE_PARAMETERS.into_iter().chain([Parameter::AssignedTokenIds]);
    Ok(ResponsePrimitive {
        rsc: Rsc::from_code(rsc),
        from: text(options, table, OneM2m::From)?,
        request_id: text(options, table, OneM2m::RequestId)?.unwrap_or_default(),
        release: text(options, table, OneM2m::Release)?,
        content: read_content(response, max_bytes)?,
        content_location: read_location(options)?,
        parameters: read_parameters(options, table, of_response)?,
    })
}

fn check_known(options: &Options, table: Table) -> Result<(), Refusal> {
    let is_known = |number| {
        matches!(number, BLOCK1 | BLOCK2 | SIZE1 | SIZE2 | LOCATION_PATH | LOCATION_QUERY)
            || table.option(number).is_some()
    };
    match options.iter().find(|(number, _)| is_critical(*number) && !is_known(*number)) {
        None => Ok(()),
        Some((number, _)) => {
            Err(bad(format!("the response has the critical option {number}")).into())
        }
    }
}

fn read_content(response: &Parts, max_bytes: usize) -> Result<Option<Bytes>, Refusal> {
    if response.payload.is_empty() {
        return Ok(None);
    }
    let format = response.options.uint(CONTENT_FORMAT, 2)?;
    let format = format.and_then(|format| u16::try_from(format).ok());
    let Some(serialization) = format.and_then(serialization) else {
        return Err(bad("the response's content is not JSON or CBOR").into());
    };
    let max_bytes = match serialization {
        Serialization::Json => max_bytes,
        Serialization::Cbor => max_bytes.saturating_mul(MAX_EXPANSION),
    };
    let json = serialization.into_json(response.payload.clone(), max_bytes)?;
    serde_json::from_slice::<serde::de::IgnoredAny>(&json)
        .map_err(|e| bad(format!("the response's content is not JSON: {e}")))?;
    Ok(Some(json))
}

fn read_location(options: &Options) -> Result<Option<String>, Refusal> {
    let mut segments = Vec::new();
    for segment in options.get(LOCATION_PATH) {
        let segment = std::str::from_utf8(segment);
        segments.push(segment.map_err(|_| bad("the Location-Path is not UTF-8"))?);
    }
    if segments.is_empty() {
        return Ok(None);
    }
    let target = Target::from_segments(&segments).map_err(|e| bad(e.to_string()))?;
    Ok(Some(target.to_string()))
}

#[cfg(test)]
#[path = "response_tests.rs"]
mod tests;
