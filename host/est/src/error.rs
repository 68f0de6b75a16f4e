//! Refusals: an HTTP status and a reason, which the client receives as text.

use http::StatusCode;

/// The reason why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Refusal {
    /// HTTP status.
    pub status: StatusCode,
    /// Reason, for the client and for the log. It contains no key.
    pub why: String,
    /// The method that the operation requires, for the header Allow.
    pub allow: Option<&'static str>,
    /// Time after which the client may repeat the request, in seconds.
    pub retry_after: Option<u64>,
}

impl Refusal {
    /// Creates a refusal.
    #[must_use]
    pub fn new(status: StatusCode, why: impl Into<String>) -> Self {
        Self { status, why: why.into(), allow: None, retry_after: None }
    }

    /// Creates the refusal of a malformed or unacceptable request.
    pub(crate) fn bad(why: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, why)
    }

    /// Creates the refusal of a request that the client may not make.
    pub(crate) fn forbidden(why: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, why)
    }
}
