//! The WebSocket binding of TS-0020.
//!
//! A connection begins as HTTP: `GET /` with the header field Upgrade becomes a WebSocket
//! ([`opening`]), and from then on each message is one primitive, in both directions ([`server`]).
//! The security association is established before, by TLS (clause 7).

mod activity;
mod in_flight;
pub mod opening;
mod server;
mod socket;
mod writer;

pub use server::serve;
