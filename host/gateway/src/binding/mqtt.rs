//! The MQTT binding of TS-0010, with the gateway as the MQTT server.
//!
//! The CSE is the only peer of each client, so the server forwards nothing between clients. A client
//! publishes requests, and responses to requests of the CSE, in topics of its own. It subscribes to the
//! topics in which the CSE publishes to it. All other topics are refused ([`client`]).
//!
//! The Quality of Service is 0 or 1. A request with 1 is acknowledged after its response: one that is
//! published with 1 must have been acknowledged by the client. So a client repeats each request whose
//! response it may not have, and the server stores no responses.

mod client;
pub mod clients;
mod reader;
mod server;

pub use server::serve;
