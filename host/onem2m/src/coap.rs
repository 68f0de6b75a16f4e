//! The CoAP binding (TS-0008): messages, their mapping to primitives, blocks and exchanges.
//!
//! The module performs no I/O, and functions that depend on time take it as a parameter. A server
//! passes each datagram of an association through these steps:
//!
//! 1. [`Exchanges`] parses the [`Message`], and recognizes repetitions (RFC 7252 clause 4).
//! 2. [`Transfers`] joins the blocks of a request (RFC 7959).
//! 3. [`read_request`] returns the request primitive. It reads the option numbers before and after
//!    TS-0008 V3.7.0, but not in one message.
//! 4. [`write_response`] creates the response in the form that the request asked for,
//!    [`Transfers`] splits it into blocks, and [`Exchanges`] sends and repeats it.
//!
//! A client sends the messages of a [`ClientTransfer`] through [`Exchanges`].

mod answered;
mod block;
mod client_transfer;
mod exchange;
mod format;
mod message;
mod notification;
mod options;
mod parameters;
mod request;
mod response;
mod transfer;

pub use answered::EXCHANGE_LIFETIME;
pub use block::Block;
pub use client_transfer::{ClientStep, ClientTransfer};
pub use exchange::{Busy, Due, Exchange, Exchanges, Received};
pub use format::{ResponseForm, code_of};
pub use message::{Code, Kind, MAX_MESSAGE_OPTIONS, MAX_TOKEN, Malformed, Message, Parts, Token};
pub use notification::write_notification;
pub use options::{MixedTables, OneM2m, OptionError, Options, Table};
pub use parameters::{Refusal, WriteError};
pub use request::{read_request, write_request};
pub use response::{read_response, write_refusal, write_response};
pub use transfer::{Limits, Step, Transfers, bounded};
