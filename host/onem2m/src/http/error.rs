//! Errors of the HTTP binding.

use crate::rsc::Rsc;

/// The error for a message that is not a primitive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct BindingError {
    /// Response Status Code of the refusal.
    pub rsc: Rsc,
    /// Request Identifier, if it could be read.
    pub request_id: Option<String>,
    /// Reason.
    pub why: String,
}

/// Returns the error for a bad request.
pub(super) fn bad(why: impl Into<String>) -> BindingError {
    BindingError { rsc: Rsc::BadRequest, request_id: None, why: why.into() }
}
