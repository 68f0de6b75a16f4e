//! Handshakes of the security associations of TS-0003, in native code.
//!
//! A connection's first flight is read whole ([`FirstFlight::read`]) and classified; the engine
//! that owns it takes it from there: [`psk::Server`] for associations with provisioned symmetric
//! keys, [`certificate::Server`] for those with certificates and raw public keys.
//!
//! Nothing here knows policy: an engine asks through one trait, [`psk::CredentialLookup`] or
//! [`certificate::CertificateMapping`], which may take its time without a thread being blocked.

mod accepted;
pub mod certificate;
mod client_hello;
mod prefixed_stream;
pub mod psk;
#[cfg(test)]
mod recorded_tests;
mod refusal;
mod suite;

pub use accepted::{Accepted, ConnectError, Connected, EngineError, TlsStream};
pub use client_hello::{Certificates, FirstFlight, Offer};
pub use prefixed_stream::PrefixedStream;
pub use refusal::{Alert, Refusal};
pub use suite::{Suite, SuiteError, suites};
