//! Associations with pre-shared keys, on both sides: TLS 1.2 on OpenSSL (TS-0003 clause 8.2.2.1).

pub(crate) mod client;
// Public only for its fuzz target.
#[doc(hidden)]
pub mod client_key_exchange_gate;
mod lookup;
pub(crate) mod server;

pub use client::Client;
pub(crate) use lookup::suite_name;
pub use lookup::{Answer, CredentialLookup, Looking, MAX_IDENTITY, Query};
pub use server::Server;
