//! The HTTP binding of TS-0009.

mod body;
mod enrollment;
mod exchange;
mod progress;
mod server;

pub use exchange::Exchange;
pub use server::{HttpTimeouts, Served, serve};
