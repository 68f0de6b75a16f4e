//! The caller of a request, and what an operation comes to.

use std::time::Duration;

use bytes::Bytes;
use saegis_onem2m::exported::Exported;
use saegis_onem2m::id::{AbsoluteId, CredentialId};
use saegis_onem2m::rsc::Rsc;

use crate::error::Refusal;
use crate::record::Seconds;

/// Who asks.
#[derive(Clone)]
pub struct Caller<'s> {
    /// The MAF client that the TLS association stands for.
    pub id: AbsoluteId,
    /// The credential that the association was established with.
    pub credential_id: CredentialId,
    /// What this very TLS session exports; None where it has no extended master secret (RFC 7627),
    /// without which another session could export the same.
    pub exported: Option<&'s Exported>,
}

/// What a sweep did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SweepOutcome {
    /// How many entries it removed.
    pub removed: usize,
    /// Whether there is more to remove.
    pub more: bool,
}

/// What an operation came to.
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

/// The earlier of an expiration time and the end of what may be. One that is over is refused.
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
