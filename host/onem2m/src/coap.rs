//! The CoAP binding (TS-0008): messages, and their mapping to primitives.
//!
//! The module performs no I/O. [`Message`] is the datagram. [`read_request`] returns the request
//! primitive. It reads the option numbers before and after TS-0008 V3.7.0, but not in one message.
//! [`write_response`] creates the response in the form that the request asked for.

mod format;
mod message;
mod options;
mod parameters;
mod request;
mod response;

pub use format::{ResponseForm, code_of};
pub use message::{Code, Kind, MAX_MESSAGE_OPTIONS, MAX_TOKEN, Malformed, Message, Parts, Token};
pub use options::{MixedTables, OneM2m, OptionError, Options, Table};
pub use parameters::{Refusal, WriteError};
pub use request::{read_request, write_request};
pub use response::{read_response, write_refusal, write_response};
