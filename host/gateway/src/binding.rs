//! Protocol bindings: each decodes request primitives from its protocol, and encodes the responses.

pub mod coap;
pub mod http;
pub mod mqtt;
mod outbox;
mod primitives;
pub mod websocket;
