//! Modules with I/O: what they can reach, that it is bounded, and that nobody else waits for it.

mod config;
mod examples;
mod grants;
mod http;
mod probe;
mod reuse;
mod servers;
mod store;
mod waiting;
