//! The caller of a request, and the result of an operation.

use std::time::Duration;

use bytes::Bytes;
use saegis_onem2m::exported::Exported;
use saegis_onem2m::id::{AbsoluteId, CredentialId};
use saegis_onem2m::rsc::Rsc;

use crate::error::Refusal;
use crate::record::Seconds;

/// The caller of a request.
#[derive(Clone)]
pub struct Caller<'s> {
    /// MAF client that the TLS association stands for.
    pub id: AbsoluteId,
    /// Credential of the association.
    pub credential_id: CredentialId,
    /// Key material exported from the TLS session; `None` without extended master secret (RFC
    /// 7627), because another session could then export the same.
    pub exported: Option<&'s Exported>,
}

/// The result of a sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SweepOutcome {
    /// Number of removed entries.
    pub removed: usize,
    /// Whether more entries have expired.
    pub more: bool,
}

/// The result of an operation.
pub(crate) struct Outcome {
    pub(crate) rsc: Rsc,
    pub(crate) content: Option<Bytes>,
    pub(crate) location: Option<String>,
}

impl Outcome {
    pub(crate) fn with(rsc: Rsc, content: Bytes) -> Self {
        Self { rsc, content: Some(content), location: None }
    }

    pub(crate) fn deleted() -> Self {
        Self { rsc: Rsc::Deleted, content: None, location: None }
    }
}

/// Returns the requested expiration time, limited to the maximum. Rejects a time in the past.
pub(crate) fn bounded(
    asked: Seconds,
    since: Seconds,
    longest: Duration,
    now: Seconds,
) -> Result<Seconds, Refusal> {
    if asked <= now {
        return Err(Refusal::Over);
    }
    Ok(asked.min(since.saturating_add(longest.as_secs())))
}
