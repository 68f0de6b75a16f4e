//! Whom a client connects to.

use std::sync::Arc;
use std::time::Duration;

use saegis_certificate::Flavour;

use crate::credential::Credential;

/// A CSE or MAF, and how both sides authenticate.
pub struct Endpoint {
    /// Its name for logs and errors.
    pub name: String,
    /// `host:port`.
    pub address: String,
    /// The domain name that its certificate must prove; indicated in the handshake.
    pub domain_name: Option<String>,
    /// The flavour of that certificate.
    pub flavour: Flavour,
    /// A key that both have; without one, both show certificates.
    pub credential: Option<Arc<Credential>>,
    /// Timeout for establishing an association.
    pub connect_timeout: Duration,
    /// Largest content of a response, in bytes.
    pub content_bytes: usize,
}

/// Why there was no response.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// There is no association, or it broke.
    #[error("{0}")]
    Failed(String),
    /// It took too long.
    #[error("there was no answer in time")]
    Late,
}
