//! Failures of pulling an artifact.

use crate::reference::Digest;
use crate::store::StoreError;

/// Why an artifact was not fetched. Nothing of it is in use then.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The registry can't be reached, or breaks off.
    #[error("{0}")]
    Failed(String),
    /// It takes too long.
    #[error("it took longer than {0} s (timeout-seconds)")]
    Timeout(u64),
    /// It requires credentials, and none are configured.
    #[error("it asks for a password, and none is configured (credentials-file)")]
    NoCredentials,
    /// It rejects the credentials.
    #[error("it does not let us in with what is in credentials-file")]
    BadCredentials,
    /// It requires an authentication scheme that is not supported.
    #[error("it asks for a password in a way that is not known here")]
    Challenge,
    /// It has no such artifact.
    #[error("it has no such artifact")]
    NotFound,
    /// It redirects too often, or to an address without HTTPS.
    #[error("it sends us elsewhere, too often or without HTTPS")]
    Redirect,
    /// It answers with this status.
    #[error("it answers with the status {0}")]
    Status(u16),
    /// It sends more bytes than the limit.
    #[error("it has more than {0} bytes for us")]
    TooLarge(u64),
    /// A file is larger than files may be.
    #[error("{what} has {size} bytes, and may have {limit}")]
    LargeFile {
        /// The file.
        what: String,
        /// Its size.
        size: u64,
        /// What it may have.
        limit: u64,
    },
    /// What it sends has another digest than what was asked for.
    #[error("it sent something else: what was asked for is {asked}, and what came is {came}")]
    DigestMismatch {
        /// The digest that was asked for.
        asked: Digest,
        /// The digest of what came.
        came: Digest,
    },
    /// What is pinned is not an artifact, or the store fails.
    #[error("{0}")]
    Store(#[from] StoreError),
}
