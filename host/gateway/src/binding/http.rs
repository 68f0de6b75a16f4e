//! The HTTP binding of TS-0009.

pub mod body;
pub mod server;
