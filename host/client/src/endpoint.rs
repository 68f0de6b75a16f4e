//! The endpoint of a client.

use std::sync::Arc;
use std::time::Duration;

use saegis_certificate::Flavour;

use crate::credential::Credential;

/// The protocol of the requests to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PeerBinding {
    /// HTTP over TLS (TS-0009).
    #[default]
    Http,
    /// CoAP over DTLS (TS-0008).
    Coap,
}

/// A CSE or MAF, with the means of authentication.
pub struct Endpoint {
    /// Name for logs and errors.
    pub name: String,
    /// Protocol of the requests.
    pub binding: PeerBinding,
    /// Address, `host:port`.
    pub address: String,
    /// Domain name that the server's certificate must prove; also sent as server name indication.
    pub domain_name: Option<String>,
    /// Flavor of that certificate.
    pub flavour: Flavour,
    /// Pre-shared key; if absent, both sides use certificates.
    pub credential: Option<Arc<Credential>>,
    /// Timeout for establishing an association.
    pub connect_timeout: Duration,
    /// Maximum content of a response, in bytes.
    pub content_bytes: usize,
}

/// The reason why there was no response.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// No association could be established.
    #[error("{0}")]
    Unreachable(String),
    /// The association broke, or the response is invalid.
    #[error("{0}")]
    Failed(String),
    /// The timeout expired.
    #[error("no response in time")]
    Late,
}
