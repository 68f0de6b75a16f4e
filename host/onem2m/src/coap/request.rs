//! Requests (TS-0008 clause 6.2.2).

use super::format::{CBOR, JSON, serialization};
use super::message::{Code, Parts};
use super::options::{
    ACCEPT, BLOCK1, BLOCK2, CONTENT_FORMAT, OneM2m, OptionError, Options, PROXY_SCHEME, PROXY_URI,
    SIZE1, SIZE2, Table, URI_HOST, URI_PATH, URI_PORT, URI_QUERY, is_critical,
};
use super::parameters::{
    Refusal, WriteError, number, put_parameters, put_text, read_parameters, text, utf8,
};
use crate::binding::{
    BindingError, MAX_OPTION_BYTES, MAX_OPTIONS, bad, check_content, is_not_in_query,
    is_not_in_query_of_create, is_option_text, option_elements, unsupported,
};
use crate::id::CseId;
use crate::parameter::{FILTER_CRITERIA, OPTIONS, Parameter, REQUEST_PARAMETERS, ValueType};
use crate::primitive::{Content, Operation, RequestPrimitive};
use crate::rsc::Rsc;
use crate::serialization::Serialization;
use crate::target::Target;

/// Short name of the Response Type in a query.
const RESPONSE_TYPE: &str = "rt";
/// Response Type blocking.
const BLOCKING: &str = "3";

/// Parses a whole request, whose blocks were joined.
///
/// # Errors
/// Returns the reason why it is not a request primitive, and the code of the response.
pub fn read_request(request: &Parts) -> Result<RequestPrimitive, Refusal> {
    let table = Table::of(&request.options)?;
    // Read first, because every refusal that follows repeats it (TS-0004 clause 7.3.2).
    let id = text(&request.options, table, OneM2m::RequestId)?;
    let with_id = |mut refusal: Refusal| {
        refusal.error.request_id.clone_from(&id);
        refusal
    };
    let parsed = request_parts(request, table).map_err(with_id)?;
    match id {
        Some(id) if !id.is_empty() => Ok(RequestPrimitive { request_id: id, ..parsed }),
        _ => Err(bad("the option oneM2M-RQI is missing").into()),
    }
}

fn request_parts(request: &Parts, table: Table) -> Result<RequestPrimitive, Refusal> {
    let options = &request.options;
    check_known(options, table)?;
    let queries = read_queries(options)?;
    let resource_type = number(options, table, OneM2m::ResourceType, 2)?;
    let resource_type = resource_type.and_then(|number| u16::try_from(number).ok());
    let operation = read_operation(request.code, resource_type, &queries)?;
    if resource_type.is_some() && operation != Operation::Create {
        return Err(bad("only a create has the option oneM2M-TY; a filter has its own").into());
    }
    if matches!(operation, Operation::Create | Operation::Notify)
        && let Some((name, _)) =
            queries.options.iter().find(|(name, _)| is_not_in_query_of_create(name))
    {
        let why = format!(
            "the query of a {} has {name}, which belongs in an option or the content",
            operation.name()
        );
        return Err(bad(why).into());
    }
    check_accept(options)?;
    let from = text(options, table, OneM2m::From)?;
    let release = text(options, table, OneM2m::Release)?;
    let of_request = REQUEST_PARAMETERS.into_iter().chain([Parameter::ResponseTargets]);
    let parameters = read_parameters(options, table, of_request)?;
    let content = read_content(request)?;
    // A create without a type must not reach an AE as a notification and be answered with 2000.
    if operation == Operation::Notify && content.as_ref().is_some_and(|c| !c.is_notified()) {
        let why = "a POST without a resource type (oneM2M-TY) is a notification: its content is \
             m2m:sgn, m2m:agn, m2m:seci or m2m:rsp";
        return Err(bad(why).into());
    }
    check_content(operation, resource_type, content.as_ref())?;
    Ok(RequestPrimitive {
        operation,
        to: read_target(options)?,
        from,
        request_id: String::new(),
        release,
        resource_type,
        content,
        options: queries.options,
        parameters,
        source_address: None,
        credential: None,
        roles: Vec::new(),
        tokens: Vec::new(),
    })
}

/// Checks that each option is known, or may be ignored.
fn check_known(options: &Options, table: Table) -> Result<(), Refusal> {
    for (number, _) in options.iter() {
        let is_known = match number {
            URI_HOST | URI_PORT | URI_PATH | URI_QUERY | CONTENT_FORMAT | ACCEPT => true,
            // A transfer in blocks is over when the request is whole.
            BLOCK1 | BLOCK2 | SIZE1 | SIZE2 => true,
            PROXY_URI | PROXY_SCHEME => {
                let why = "the gateway does not forward requests to other CoAP servers";
                let error = BindingError { rsc: Rsc::NotImplemented, ..bad(why) };
                return Err(Refusal { code: Code::PROXYING_NOT_SUPPORTED, error });
            }
            _ => match table.option(number) {
                None => false,
                Some(OneM2m::Unsupported(name)) => {
                    let why = format!("the parameter {name} is not supported");
                    return Err(BindingError { rsc: Rsc::NotImplemented, ..bad(why) }.into());
                }
                Some(OneM2m::Parameter(parameter)) => {
                    parameter == Parameter::ResponseTargets
                        || REQUEST_PARAMETERS.contains(&parameter)
                }
                Some(OneM2m::Status) => false,
                Some(OneM2m::From | OneM2m::RequestId | OneM2m::Release | OneM2m::ResourceType) => {
                    true
                }
            },
        };
        // All options of oneM2M are critical. The former numbers do not have the bit for it.
        if !is_known && (is_critical(number) || table.option(number).is_some()) {
            return Err(OptionError { number, why: "is critical and not known" }.into());
        }
    }
    options.single(URI_HOST)?;
    options.uint(URI_PORT, 2)?;
    Ok(())
}

fn read_target(options: &Options) -> Result<Target, Refusal> {
    let mut segments = Vec::new();
    for segment in options.get(URI_PATH) {
        segments.push(utf8(URI_PATH, segment)?);
    }
    Target::from_segments(&segments).map_err(|e| bad(e.to_string()).into())
}

/// The queries of a request.
struct Queries {
    /// Operation of a request that is not blocking.
    operation: Option<Operation>,
    options: Vec<(String, Vec<String>)>,
}

impl Queries {
    fn is_blocking(&self) -> bool {
        let all = self.options.iter();
        let mut types = all.filter(|(name, _)| name == RESPONSE_TYPE).map(|(_, value)| value);
        types.next().is_none_or(|value| value.iter().all(|v| v == BLOCKING))
    }
}

fn read_queries(options: &Options) -> Result<Queries, Refusal> {
    let mut queries = Queries { operation: None, options: Vec::new() };
    let mut length = 0;
    for query in options.get(URI_QUERY) {
        let query = utf8(URI_QUERY, query)?;
        length += query.len() + 1;
        if length > MAX_OPTION_BYTES || queries.options.len() >= MAX_OPTIONS {
            return Err(bad(format!(
                "the queries are more than {MAX_OPTIONS}, or longer than {MAX_OPTION_BYTES} bytes"
            ))
            .into());
        }
        let (name, value) = query.split_once('=').unwrap_or((query, ""));
        if name == "op" {
            let operation = match value {
                "1" => Operation::Create,
                "2" => Operation::Retrieve,
                "3" => Operation::Update,
                "4" => Operation::Delete,
                "5" => Operation::Notify,
                _ => return Err(bad("op is not the number of an operation, 1 to 5").into()),
            };
            if queries.operation.replace(operation).is_some() {
                return Err(bad("op occurs more than once").into());
            }
            continue;
        }
        let value = elements(name, value);
        if !is_option_text(name, &value) {
            return Err(bad("a query has a control character").into());
        }
        if is_not_in_query(name) {
            let why = format!("a query has {name}, which belongs in an option or the content");
            return Err(bad(why).into());
        }
        if name == Parameter::Tokens.short_name() {
            let why = format!("the parameter {name} is not supported");
            return Err(BindingError { rsc: Rsc::NotImplemented, ..bad(why) }.into());
        }
        // Filter criteria may be repeated, other parameters may not.
        let is_single = name == RESPONSE_TYPE || OPTIONS.iter().any(|(known, _)| *known == name);
        if is_single && queries.options.iter().any(|(known, _)| known == name) {
            return Err(bad(format!("{name} occurs more than once")).into());
        }
        queries.options.push((name.into(), value));
    }
    Ok(queries)
}

/// Splits the value of a query. A list has the separator `+`, which CoAP cannot escape, so that the
/// value of a parameter that is not a list stays whole.
fn elements(name: &str, value: &str) -> Vec<String> {
    let mut known = OPTIONS.iter().chain(&FILTER_CRITERIA);
    let value_type = known.find(|(known, _)| *known == name).map(|(_, value_type)| *value_type);
    match value_type {
        None | Some(ValueType::Texts | ValueType::Numbers) => {
            option_elements(name, value.split('+').map(Into::into).collect())
        }
        Some(_) => vec![value.into()],
    }
}

/// Returns the operation. A POST with a resource type is a create. A request that is not blocking
/// is a POST with its operation in the query (TS-0008 clause 6.2.1).
fn read_operation(
    method: Code,
    resource_type: Option<u16>,
    queries: &Queries,
) -> Result<Operation, Refusal> {
    if let Some(operation) = queries.operation {
        if method != Code::POST || queries.is_blocking() {
            let why = "op belongs in the query of a POST whose response type (rt) is not blocking";
            return Err(bad(why).into());
        }
        if operation == Operation::Create && resource_type.is_none() {
            return Err(bad("a create has a resource type (oneM2M-TY)").into());
        }
        return Ok(operation);
    }
    match method {
        Code::POST if resource_type.is_some() => Ok(Operation::Create),
        Code::POST => Ok(Operation::Notify),
        Code::GET => Ok(Operation::Retrieve),
        Code::PUT => Ok(Operation::Update),
        Code::DELETE => Ok(Operation::Delete),
        _ => {
            let why = format!("the method {method} is not mapped to an operation");
            Err(BindingError { rsc: Rsc::OperationNotAllowed, ..bad(why) }.into())
        }
    }
}

fn check_accept(options: &Options) -> Result<(), Refusal> {
    let Some(format) = options.uint(ACCEPT, 2)? else { return Ok(()) };
    match u16::try_from(format).ok().and_then(serialization) {
        Some(_) => Ok(()),
        None => {
            let why = format!("responses are available in the Content-Formats {JSON} and {CBOR}");
            Err(BindingError { rsc: Rsc::NotAcceptable, ..bad(why) }.into())
        }
    }
}

fn read_content(request: &Parts) -> Result<Option<Content>, Refusal> {
    let format = request.options.uint(CONTENT_FORMAT, 2)?;
    if request.payload.is_empty() {
        return Ok(None);
    }
    let format = format.ok_or_else(|| unsupported("content without a Content-Format"))?;
    let serialization = u16::try_from(format).ok().and_then(serialization).ok_or_else(|| {
        unsupported(format!(
            "content of the Content-Format {format} is not supported; use {JSON} or {CBOR}"
        ))
    })?;
    Ok(Some(serialization.read_content(request.payload.clone())?))
}

/// Creates the CoAP request that carries `request` to the CSE `at`, with options of the current
/// table.
///
/// # Errors
/// Returns an error if a value does not fit an option.
pub fn write_request(
    request: &RequestPrimitive,
    at: &CseId,
    serialization: Serialization,
) -> Result<Parts, WriteError> {
    let is_blocking = request.option(RESPONSE_TYPE).is_none_or(|v| v.iter().all(|v| v == BLOCKING));
    let (method, operation) = match request.operation {
        Operation::Create => (Code::POST, 1),
        Operation::Retrieve => (Code::GET, 2),
        Operation::Update => (Code::PUT, 3),
        Operation::Delete => (Code::DELETE, 4),
        Operation::Notify => (Code::POST, 5),
    };
    let mut parts = Parts::new(if is_blocking { method } else { Code::POST });
    let options = &mut parts.options;
    for segment in ["~", at.bare()].into_iter().chain(request.to.resource.split('/')) {
        put_text(options, URI_PATH, segment)?;
    }
    if !is_blocking {
        options.push_text(URI_QUERY, &format!("op={operation}"));
    }
    for (name, value) in &request.options {
        let joined = value.join("+");
        if elements(name, &joined) != *value || name.contains('=') {
            return Err(WriteError(format!("the list {name}, because an element has a +")));
        }
        put_text(options, URI_QUERY, &format!("{name}={joined}"))?;
    }
    let mut put = |option, value: &str| match Table::Current.number(option) {
        Some(number) => put_text(options, number, value),
        None => Err(WriteError(format!("the parameter {option:?}"))),
    };
    put(OneM2m::RequestId, &request.request_id)?;
    if let Some(from) = &request.from {
        put(OneM2m::From, from)?;
    }
    if let Some(release) = &request.release {
        put(OneM2m::Release, release)?;
    }
    put_parameters(&request.parameters, Table::Current, options)?;
    if let (Some(ty), Some(number)) =
        (request.resource_type, Table::Current.number(OneM2m::ResourceType))
    {
        options.push_uint(number, ty.into());
    }
    let format = match serialization {
        Serialization::Json => JSON,
        Serialization::Cbor => CBOR,
    };
    options.push_uint(ACCEPT, format.into());
    if let Some(content) = &request.content {
        options.push_uint(CONTENT_FORMAT, format.into());
        let content = serialization.from_json(content.bytes().clone());
        parts.payload = content.map_err(|e| WriteError(format!("the content: {e}")))?;
    }
    Ok(parts)
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
