//! Whole primitives, m2m:rqp and m2m:rsp, in JSON and CBOR (TS-0004 clauses 8.4 and 8.5).
//!
//! A primitive is an object whose members have the short names. CBOR is translated to JSON before
//! it is parsed, so the same rules apply to both. They are as strict as those of HTTP: member names
//! are unique, compared without case. Names outside of the tables of
//! [`parameter`](crate::parameter) and values of another type are refused.

mod cbor;
mod members;
mod reader;
mod writer;

use bytes::Bytes;

use crate::binding::{BindingError, bad};
use crate::primitive::{Content, RequestPrimitive, ResponsePrimitive};

pub use crate::primitive::Primitive;

pub use cbor::CborError;
pub use writer::response as json_response;

/// Maximum factor by which CBOR grows when it becomes JSON: a control character of one byte has six.
const MAX_EXPANSION: usize = 8;

/// A serialization of primitives and of their contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Serialization {
    /// JSON.
    #[default]
    Json,
    /// CBOR.
    Cbor,
}

impl Serialization {
    /// Parses a primitive. `max_bytes` bounds its JSON form.
    ///
    /// # Errors
    /// Returns the reason why it is not a primitive, with the Response Status Code.
    pub fn read(self, bytes: Bytes, max_bytes: usize) -> Result<Primitive, BindingError> {
        reader::read(&self.into_json(bytes, max_bytes)?)
    }

    /// Translates a text in this serialization to JSON of at most `max_bytes`.
    ///
    /// # Errors
    /// Returns an error if it is too long, or has no equivalent in JSON.
    pub fn into_json(self, bytes: Bytes, max_bytes: usize) -> Result<Bytes, BindingError> {
        match self {
            Self::Json if bytes.len() > max_bytes => {
                Err(bad(format!("it is longer than {max_bytes} bytes")))
            }
            Self::Json => Ok(bytes),
            Self::Cbor => cbor::to_json(&bytes, max_bytes).map_err(|e| bad(e.to_string())),
        }
    }

    /// Parses the content of a request.
    ///
    /// # Errors
    /// Returns an error if it is not a representation.
    pub(crate) fn read_content(self, bytes: Bytes) -> Result<Content, BindingError> {
        let max_bytes = bytes.len().saturating_mul(MAX_EXPANSION);
        Content::parse(self.into_json(bytes, max_bytes)?).map_err(|e| bad(e.to_string()))
    }

    /// Translates the content of a response to JSON.
    ///
    /// # Errors
    /// Returns an error if it is not in this serialization.
    pub(crate) fn read_response_content(self, bytes: Bytes) -> Result<Bytes, BindingError> {
        let max_bytes = bytes.len().saturating_mul(MAX_EXPANSION);
        let json = self.into_json(bytes, max_bytes)?;
        match serde_json::from_slice::<serde::de::IgnoredAny>(&json) {
            Ok(_) => Ok(json),
            Err(e) => Err(bad(format!("the response's content is not JSON: {e}"))),
        }
    }

    /// Translates JSON to this serialization.
    ///
    /// # Errors
    /// Returns an error if the text is not JSON.
    pub fn from_json(self, json: Bytes) -> Result<Bytes, CborError> {
        match self {
            Self::Json => Ok(json),
            Self::Cbor => cbor::from_json(&json),
        }
    }

    /// Serializes a request.
    ///
    /// # Errors
    /// Returns an error if its content is not JSON, which cannot happen for a parsed primitive.
    pub fn write_request(self, request: &RequestPrimitive) -> Result<Bytes, CborError> {
        self.from_json(writer::write_request(request))
    }

    /// Serializes a response.
    ///
    /// # Errors
    /// Returns an error if its content is not JSON.
    pub fn write_response(self, response: &ResponsePrimitive) -> Result<Bytes, CborError> {
        self.from_json(writer::write_response(response))
    }
}

#[cfg(test)]
#[path = "serialization/tests.rs"]
mod tests;
