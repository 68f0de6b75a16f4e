//! Outbound connections: security associations in which this process is the client, and requests of
//! the HTTP binding over them.
//!
//! - [`PeerClient`] keeps a pool of associations with one CSE or MAF, as the gateway needs it.
//! - [`Session`] is one association of an AE with its registrar CSE or its MAF.
//! - [`PlainHttp`] is a pool of connections without TLS to the CSE behind a gateway.
//!
//! Each sends a request primitive and returns the response primitive, within a time and a size.

mod certificates;
mod connector;
mod credential;
mod endpoint;
mod error;
mod plain_http;
mod pool;
pub mod response;
mod session;

pub use certificates::{CertificateSource, PeerCertificates};
pub use connector::{Stream, within};
pub use credential::{Credential, default_suites, key};
pub use endpoint::{Endpoint, NoAnswer};
pub use error::error_chain;
pub use plain_http::PlainHttp;
pub use pool::PeerClient;
pub use session::{Peer, Proof, Session, SessionError};
