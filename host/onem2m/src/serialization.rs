//! Whole primitives, m2m:rqp and m2m:rsp, in JSON and in CBOR (TS-0004 clauses 8.4 and 8.5).
//!
//! A primitive is a bare object whose members have the short names. JSON is the one form inside: CBOR is
//! translated into it before it is read, so both are read by the same rules. They are as strict as those
//! of HTTP: a member stands once, in whatever case; a name that is not in the tables of
//! [`parameter`](crate::parameter) is refused; and so is a value of another type.

mod cbor;
mod members;
mod reader;
mod writer;

use bytes::Bytes;

use crate::binding::{BindingError, bad};
use crate::primitive::{RequestPrimitive, ResponsePrimitive};

pub use crate::primitive::Primitive;

pub use cbor::CborError;
pub use writer::response as json_response;

/// A serialization of primitives and of their contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Serialization {
    /// JSON.
    #[default]
    Json,
    /// CBOR.
    Cbor,
}

impl Serialization {
    /// Reads a primitive. `max_bytes` bounds its JSON form.
    ///
    /// # Errors
    /// Why it is not a primitive, with the code to answer.
    pub fn read(self, bytes: Bytes, max_bytes: usize) -> Result<Primitive, BindingError> {
        reader::read(&self.into_json(bytes, max_bytes)?)
    }

    /// Translates a text in this serialization into JSON of at most `max_bytes`.
    ///
    /// # Errors
    /// When it is too long, or has no meaning in JSON.
    pub fn into_json(self, bytes: Bytes, max_bytes: usize) -> Result<Bytes, BindingError> {
        match self {
            Self::Json if bytes.len() > max_bytes => {
                Err(bad(format!("it is longer than {max_bytes} bytes")))
            }
            Self::Json => Ok(bytes),
            Self::Cbor => cbor::to_json(&bytes, max_bytes).map_err(|e| bad(e.to_string())),
        }
    }

    /// Translates JSON into this serialization.
    ///
    /// # Errors
    /// When the text is not JSON.
    pub fn from_json(self, json: Bytes) -> Result<Bytes, CborError> {
        match self {
            Self::Json => Ok(json),
            Self::Cbor => cbor::from_json(&json),
        }
    }

    /// Writes a request.
    ///
    /// # Errors
    /// When its content is not JSON, which that of a primitive that was read is.
    pub fn write_request(self, request: &RequestPrimitive) -> Result<Bytes, CborError> {
        self.from_json(writer::write_request(request))
    }

    /// Writes a response.
    ///
    /// # Errors
    /// When its content is not JSON.
    pub fn write_response(self, response: &ResponsePrimitive) -> Result<Bytes, CborError> {
        self.from_json(writer::write_response(response))
    }
}

#[cfg(test)]
#[path = "serialization/tests.rs"]
mod tests;
