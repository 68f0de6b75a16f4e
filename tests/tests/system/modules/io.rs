//! Modules with I/O: permitted targets, limits, and isolation from other decisions.

mod config;
mod examples;
mod grants;
mod http;
mod probe;
mod reuse;
mod servers;
mod store;
mod waiting;
