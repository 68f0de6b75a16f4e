//! Fuzz targets: one function for each parser of external bytes.
//!
//! A target accepts any bytes, and panics if an invariant does not hold. The programs in
//! `fuzz_targets` pass these functions to libFuzzer, which finds new inputs by coverage. The tests
//! of this package call them for each file of the corpus in an ordinary build. `cargo xtask fuzz`
//! builds and runs the programs, and so does cargo-fuzz.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a panic is how a target says that something does not hold"
)]

mod certificate;
mod certification_request;
mod client_hello;
mod client_key_exchange;
mod coap;
mod dtls;
mod http_primitive;
mod ids;
mod mqtt;
mod pieces;
mod policy_table;
mod primitive;
mod proxy_header;
mod resource_content;
mod sealed_entry;
mod token;

use std::process::ExitCode;

pub use certificate::certificate;
pub use certification_request::certification_request;
pub use client_hello::client_hello;
pub use client_key_exchange::client_key_exchange;
pub use coap::coap;
pub use dtls::dtls;
pub use http_primitive::http_primitive;
pub use ids::ids;
pub use mqtt::mqtt;
pub use policy_table::policy_table;
pub use primitive::{primitive, websocket};
pub use proxy_header::proxy_header;
pub use resource_content::resource_content;
pub use sealed_entry::sealed_entry;
pub use token::token;

/// A fuzz target.
pub type Target = fn(&[u8]);

/// Each target, by the name of its program and its corpus folder.
pub const TARGETS: [(&str, Target); 16] = [
    ("certificate", certificate),
    ("certification_request", certification_request),
    ("client_hello", client_hello),
    ("client_key_exchange", client_key_exchange),
    ("coap", coap),
    ("dtls", dtls),
    ("http_primitive", http_primitive),
    ("ids", ids),
    ("mqtt", mqtt),
    ("policy_table", policy_table),
    ("primitive", primitive),
    ("proxy_header", proxy_header),
    ("resource_content", resource_content),
    ("sealed_entry", sealed_entry),
    ("token", token),
    ("websocket", websocket),
];

/// Runs a target for each file on the command line, in a build without instrumentation, for
/// debugging a finding.
#[must_use]
pub fn replay(target: Target) -> ExitCode {
    for path in std::env::args_os().skip(1) {
        match std::fs::read(&path) {
            Ok(input) => target(&input),
            Err(error) => panic!("cannot read {}: {error}", path.display()),
        }
    }
    ExitCode::SUCCESS
}
