//! Handshakes of the security associations of TS-0003, in native code.
//!
//! A connection's first flight is read whole ([`FirstFlight::read`]) and classified; the engine
//! that owns it takes it from there. There is one engine so far, [`psk::Server`], for associations
//! with provisioned symmetric keys; a client that offers certificates only is refused.
//!
//! Nothing here knows policy: an engine asks through one trait, [`psk::CredentialLookup`], which
//! may take its time without a thread being blocked.

mod client_hello;
// Seen from outside by its fuzz target alone; whoever wants a handshake takes an engine.
#[doc(hidden)]
pub mod held;
pub mod psk;
#[cfg(test)]
mod recorded_tests;
mod refusal;
mod suite;

pub use client_hello::{FirstFlight, Offer};
pub use refusal::{Alert, Refusal};
pub use suite::{Suite, SuiteError};
