//! Resources that the requests to the embedded CSE share.

use std::num::NonZeroUsize;
use std::sync::Arc;

use saegis_onem2m::id::CredentialId;
use tokio::sync::Semaphore;

use super::fair_slots::{ActiveRequests, FairSlots};
use super::turns::Writers;
use crate::config::RequestLimits;
use crate::keyed_limiter::KeyedLimiter;
use crate::low_priority::LowPriority;
use crate::notification::sender::Notifier;
use crate::session::usage::Usage;

/// Maximum number of long requests that only read, at a low priority, at a time.
const MAX_LONG_READERS: usize = 8;

/// Maximum number of concurrent short readers for each processor: one computes, and one may wait
/// for the disk.
const MAX_READERS_PER_PROCESSOR: usize = 2;

/// Maximum number of acknowledged requests whose results have not been sent.
const MAX_ACKNOWLEDGED: usize = 256;

/// Resources that requests share.
pub(super) struct Shared {
    pub(super) limits: RequestLimits,
    pub(super) active_requests: Arc<ActiveRequests>,
    pub(super) readers: Arc<FairSlots>,
    pub(super) long_readers: Arc<FairSlots>,
    pub(super) writers: Writers,
    pub(super) usage: Arc<Usage>,
    /// Sender of notifications.
    pub(super) notifier: Arc<Notifier>,
    /// Threads for long readers.
    pub(super) low_priority: LowPriority,
    /// Acknowledged requests whose results have not been sent: of each credential, and the number
    /// that may be added in total.
    pub(super) acknowledged: KeyedLimiter<CredentialId>,
    pub(super) may_acknowledge: Arc<Semaphore>,
}

impl Shared {
    /// Creates the resources, without an active request.
    pub(super) fn new(limits: RequestLimits, usage: Arc<Usage>, notifier: Arc<Notifier>) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self {
            limits,
            active_requests: ActiveRequests::new(limits.per_credential),
            readers: FairSlots::new(MAX_READERS_PER_PROCESSOR * processors),
            long_readers: FairSlots::new(MAX_LONG_READERS),
            writers: Writers::new(usage.clone()),
            usage,
            notifier,
            low_priority: LowPriority::for_blocking_work("long-request", MAX_LONG_READERS),
            acknowledged: KeyedLimiter::new(limits.per_credential),
            may_acknowledge: Arc::new(Semaphore::new(MAX_ACKNOWLEDGED)),
        }
    }
}
