//! What the requests to the embedded CSE share.

use std::num::NonZeroUsize;
use std::sync::Arc;

use saegis_onem2m::id::CredentialId;
use tokio::sync::Semaphore;

use super::places::{Places, UnderWay};
use crate::config::RequestLimits;
use crate::keyed_limiter::KeyedLimiter;

/// Requests that the embedded CSE carries out at a time: those that write, of which one has the disk,
/// and long ones that only read. The long ones give way to all others, and share the processors among
/// themselves.
const MAX_WRITERS: usize = 8;
const MAX_LONG_READERS: usize = 8;

/// Short requests for each processor that only read, at a time: one computes, and one may wait for the
/// disk.
const MAX_READERS_PER_PROCESSOR: usize = 2;

/// Maximum number of acknowledged requests whose results are not sent yet.
const MAX_ACKNOWLEDGED: usize = 256;

/// What requests share.
pub(super) struct Shared {
    pub(super) limits: RequestLimits,
    pub(super) under_way: Arc<UnderWay>,
    pub(super) readers: Arc<Places>,
    pub(super) long_readers: Arc<Places>,
    pub(super) writers: Arc<Places>,
    /// Requests that are acknowledged, and whose results are not sent yet: of each credential, and
    /// how many more there may be of all.
    pub(super) acknowledged: KeyedLimiter<CredentialId>,
    pub(super) may_acknowledge: Arc<Semaphore>,
}

impl Shared {
    /// Nothing is under way yet.
    pub(super) fn new(limits: RequestLimits) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self {
            limits,
            under_way: UnderWay::new(limits.per_credential),
            readers: Places::new(MAX_READERS_PER_PROCESSOR * processors),
            long_readers: Places::new(MAX_LONG_READERS),
            writers: Places::new(MAX_WRITERS),
            acknowledged: KeyedLimiter::new(limits.per_credential),
            may_acknowledge: Arc::new(Semaphore::new(MAX_ACKNOWLEDGED)),
        }
    }
}
