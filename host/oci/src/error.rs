//! The failures of pulling an artifact.

use crate::reference::Digest;
use crate::store::StoreError;

/// The reason why an artifact was not pulled. No part of it is used then.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The registry is not reachable, or the connection broke.
    #[error("{0}")]
    Failed(String),
    /// The pull took too long.
    #[error("it took longer than {0} s (timeout-seconds)")]
    Timeout(u64),
    /// The registry requires credentials, and none are configured.
    #[error("it requires a password, and none is configured (credentials-file)")]
    NoCredentials,
    /// The registry rejects the credentials.
    #[error("it rejects the password in credentials-file")]
    BadCredentials,
    /// The registry requires an unsupported authentication scheme.
    #[error("it requires an authentication scheme that is not supported")]
    Challenge,
    /// The registry does not have the artifact.
    #[error("it has no such artifact")]
    NotFound,
    /// The registry redirects too often, or to an address without HTTPS.
    #[error("it redirects too often, or to an address without HTTPS")]
    Redirect,
    /// The registry responds with this status.
    #[error("it responds with the status {0}")]
    Status(u16),
    /// The registry sends more bytes than the limit.
    #[error("it sends more than {0} bytes")]
    TooLarge(u64),
    /// A file of the artifact is too large.
    #[error("{what} has {size} bytes; the maximum is {limit}")]
    LargeFile {
        /// Name of the file.
        what: String,
        /// Size of the file, in bytes.
        size: u64,
        /// Maximum size, in bytes.
        limit: u64,
    },
    /// The content does not match the requested digest.
    #[error("it sent content with another digest: requested {asked}, received {came}")]
    DigestMismatch {
        /// Requested digest.
        asked: Digest,
        /// Digest of the received content.
        came: Digest,
    },
    /// The content is not an artifact, or the store failed.
    #[error("{0}")]
    Store(#[from] StoreError),
}
