//! The fuzz targets: one function for each reader of bytes that come from outside.
//!
//! A target takes any bytes and panics when something that has to hold does not. The programs in
//! `fuzz_targets` hand these functions to libFuzzer, where coverage leads it to new inputs; the
//! tests of this package call them for each file of the corpus, in an ordinary build.
//! `cargo xtask fuzz` builds and runs the programs; so does cargo-fuzz.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a panic is how a target says that something does not hold"
)]

mod certificate;
mod client_hello;
mod client_key_exchange;
mod http_primitive;
mod ids;
mod pieces;
mod policy_table;

use std::process::ExitCode;

pub use certificate::certificate;
pub use client_hello::client_hello;
pub use client_key_exchange::client_key_exchange;
pub use http_primitive::http_primitive;
pub use ids::ids;
pub use policy_table::policy_table;

/// A target.
pub type Target = fn(&[u8]);

/// Every target, by the name of its program and of its folder in the corpus.
pub const TARGETS: [(&str, Target); 6] = [
    ("certificate", certificate),
    ("client_hello", client_hello),
    ("client_key_exchange", client_key_exchange),
    ("http_primitive", http_primitive),
    ("ids", ids),
    ("policy_table", policy_table),
];

/// What a target's program does where it was built without instrumentation: calls the target for
/// each file that is named on its command line, as one does to look into a finding with a debugger.
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
