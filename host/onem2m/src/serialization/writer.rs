//! Serializes primitives in JSON.

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::parameter::{FILTER_CRITERIA, OPTIONS, Parameter, Parameters, ValueType};
use crate::primitive::{Operation, RequestPrimitive, ResponsePrimitive, TOKEN_REQUEST_INFORMATION};

/// Returns a response as a value inside of another primitive, with its From and To.
#[must_use]
pub fn response(response: &ResponsePrimitive, from: &str, to: Option<&str>) -> Value {
    let mut members = response_members(response);
    members.insert("fr".into(), from.into());
    if let Some(to) = to {
        members.insert("to".into(), to.into());
    }
    let content = response.content.as_deref().and_then(|c| serde_json::from_slice(c).ok());
    if let Some(content) = content {
        members.insert("pc".into(), content);
    }
    Value::Object(members)
}

/// Serializes a response.
pub(super) fn write_response(response: &ResponsePrimitive) -> Bytes {
    let content = response.content.as_deref();
    if !response.parameters.is_empty() {
        let mut out = without_end(response_members(response));
        put_response_content(&mut out, content);
        out.push(b'}');
        return out.into();
    }
    // Most responses have no others than these members.
    let mut out =
        Vec::with_capacity(64 + response.request_id.len() + content.map_or(0, <[u8]>::len));
    out.extend_from_slice(b"{\"rqi\":");
    put_text(&mut out, &response.request_id);
    out.extend_from_slice(b",\"rsc\":");
    out.extend_from_slice(response.rsc.code().to_string().as_bytes());
    if let Some(release) = &response.release {
        out.extend_from_slice(b",\"rvi\":");
        put_text(&mut out, release);
    }
    put_response_content(&mut out, content);
    out.push(b'}');
    out.into()
}

/// Appends a text.
fn put_text(out: &mut Vec<u8>, text: &str) {
    // A vector takes all that is written.
    let _ = serde_json::to_writer(out, text);
}

/// Appends the content of a response as the last member. Token Request Information is content in HTTP and
/// CoAP, and a parameter here.
fn put_response_content(out: &mut Vec<u8>, content: Option<&[u8]>) {
    match content.and_then(token_request_information) {
        Some(information) => {
            out.extend_from_slice(b",\"tqf\":");
            // A vector takes all that is written.
            let _ = serde_json::to_writer(out, &information);
        }
        None => put_content(out, content),
    }
}

/// Returns the value of Token Request Information. A content with other members is not one: they would
/// become members of the primitive.
fn token_request_information(content: &[u8]) -> Option<Value> {
    if !content.starts_with(TOKEN_REQUEST_INFORMATION) {
        return None;
    }
    let members: Map<String, Value> = serde_json::from_slice(content).ok()?;
    let mut members = members.into_iter();
    let (_, information) = members.next()?;
    members.next().is_none().then_some(information)
}

/// Appends the unchanged content as the last member.
fn put_content(out: &mut Vec<u8>, content: Option<&[u8]>) {
    if let Some(content) = content {
        out.extend_from_slice(b",\"pc\":");
        out.extend_from_slice(content);
    }
}

/// Serializes a request.
pub(super) fn write_request(request: &RequestPrimitive) -> Bytes {
    let mut members = Map::new();
    let operation = match request.operation {
        Operation::Create => 1,
        Operation::Retrieve => 2,
        Operation::Update => 3,
        Operation::Delete => 4,
        Operation::Notify => 5,
    };
    members.insert("op".into(), operation.into());
    members.insert("to".into(), request.to.to_string().into());
    if let Some(from) = &request.from {
        members.insert("fr".into(), from.as_str().into());
    }
    members.insert("rqi".into(), request.request_id.as_str().into());
    if let Some(release) = &request.release {
        members.insert("rvi".into(), release.as_str().into());
    }
    if let Some(resource_type) = request.resource_type {
        members.insert("ty".into(), resource_type.into());
    }
    put_parameters(&mut members, &request.parameters);
    put_options(&mut members, request);
    let mut out = without_end(members);
    put_content(&mut out, request.content.as_ref().map(|content| &**content.bytes()));
    out.push(b'}');
    out.into()
}

fn response_members(response: &ResponsePrimitive) -> Map<String, Value> {
    let mut members = Map::new();
    members.insert("rsc".into(), response.rsc.code().into());
    members.insert("rqi".into(), response.request_id.as_str().into());
    if let Some(release) = &response.release {
        members.insert("rvi".into(), release.as_str().into());
    }
    put_parameters(&mut members, &response.parameters);
    members
}

/// Serializes members without the closing brace, so that more can follow.
fn without_end(members: Map<String, Value>) -> Vec<u8> {
    let mut out = Value::Object(members).to_string().into_bytes();
    out.pop();
    out
}

fn put_parameters(members: &mut Map<String, Value>, parameters: &Parameters) {
    for (parameter, value) in parameters.iter() {
        let name = parameter.short_name();
        match parameter {
            // The rest of the Response Type is among the options.
            Parameter::ResponseTargets => {
                let targets = value.split('&').filter(|target| !target.is_empty());
                let targets: Vec<Value> = targets.map(Into::into).collect();
                let rt = members.entry("rt").or_insert_with(|| Value::Object(Map::new()));
                if let Some(rt) = rt.as_object_mut() {
                    rt.insert("nu".into(), targets.into());
                }
            }
            Parameter::AssignedTokenIds => {
                let pairs = value.split('+').filter_map(|pair| pair.split_once(':'));
                let pairs: Vec<Value> = pairs
                    .map(|(local, token)| serde_json::json!({"lti": local, "tkid": token}))
                    .collect();
                members.insert(name.into(), serde_json::json!({ "ltia": pairs }));
            }
            Parameter::Tokens => {
                members.insert(name.into(), value.split('+').collect());
            }
            _ => {
                members.insert(name.into(), one(parameter.value_type(), value));
            }
        }
    }
}

fn put_options(members: &mut Map<String, Value>, request: &RequestPrimitive) {
    let mut criteria = Map::new();
    for (name, value) in &request.options {
        let first = value.first().map(String::as_str).unwrap_or_default();
        if name == "rt" {
            let rt = members.entry("rt").or_insert_with(|| Value::Object(Map::new()));
            if let Some(rt) = rt.as_object_mut() {
                rt.insert("rtv".into(), one(ValueType::Number, first));
            }
        } else if let Some((_, value_type)) = OPTIONS.iter().find(|(known, _)| known == name) {
            members.insert(name.clone(), many(*value_type, value));
        } else if let Some((_, value_type)) =
            FILTER_CRITERIA.iter().find(|(known, _)| known == name)
        {
            criteria.insert(name.clone(), many(*value_type, value));
        } else {
            let conditions = criteria.entry("atr").or_insert_with(|| Value::Array(Vec::new()));
            if let Some(conditions) = conditions.as_array_mut() {
                conditions.extend(
                    value.iter().map(|value| serde_json::json!({"nm": name, "val": value})),
                );
            }
        }
    }
    if !criteria.is_empty() {
        members.insert("fc".into(), criteria.into());
    }
}

fn many(value_type: ValueType, values: &[String]) -> Value {
    match value_type {
        ValueType::Texts => values.iter().map(|v| one(ValueType::Text, v)).collect(),
        ValueType::Numbers => values.iter().map(|v| one(ValueType::Number, v)).collect(),
        _ => one(value_type, values.first().map(String::as_str).unwrap_or_default()),
    }
}

/// Returns a value of this type, or a text if `text` is not one.
fn one(value_type: ValueType, text: &str) -> Value {
    match value_type {
        ValueType::Number => text.parse::<u64>().map_or_else(|_| text.into(), Into::into),
        ValueType::Boolean => text.parse::<bool>().map_or_else(|_| text.into(), Into::into),
        _ => text.into(),
    }
}
