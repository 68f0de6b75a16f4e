//! Primitives serialized in JSON (TS-0004 clause 8.4): objects whose members have the short names.

use serde_json::{Map, Value};

use crate::parameter::Parameter;
use crate::primitive::ResponsePrimitive;

/// Serializes a response with its From and To.
#[must_use]
pub fn response(response: &ResponsePrimitive, from: &str, to: Option<&str>) -> Value {
    let mut members = Map::new();
    let mut put = |name: &str, value: Value| members.insert(name.into(), value);
    put("rsc", response.rsc.code().into());
    put("rqi", response.request_id.as_str().into());
    put("fr", from.into());
    if let Some(to) = to {
        put("to", to.into());
    }
    if let Some(release) = &response.release {
        put("rvi", release.as_str().into());
    }
    // Partial content has a status and the offset of the rest.
    for parameter in [Parameter::ContentStatus, Parameter::ContentOffset] {
        let number = response.parameters.get(parameter).and_then(|v| v.parse::<u64>().ok());
        if let Some(number) = number {
            put(parameter.short_name(), number.into());
        }
    }
    let content = response.content.as_deref().and_then(|c| serde_json::from_slice(c).ok());
    if let Some(content) = content {
        put("pc", content);
    }
    Value::Object(members)
}
