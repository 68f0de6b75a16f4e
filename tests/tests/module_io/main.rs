//! Modules with I/O: what they can reach, that it is bounded, and that nobody else waits for it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests"
)]

mod config;
mod examples;
mod grants;
mod http;
mod probe;
mod reuse;
mod servers;
mod store;
mod waiting;
