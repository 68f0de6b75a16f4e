//! Channel of updates to the open pages.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{Semaphore, broadcast};

/// Maximum number of concurrent streams.
const MAX_STREAMS: usize = 16;
/// Number of updates that wait for a slow stream. Each one has the whole state, so it may miss the others.
const QUEUED: usize = 2;

/// Streams of updates.
pub struct Updates {
    /// The open pages receive from it.
    pub sender: broadcast::Sender<Bytes>,
    /// Permits of the streams.
    pub permits: Arc<Semaphore>,
}

impl Default for Updates {
    fn default() -> Self {
        let (sender, _) = broadcast::channel(QUEUED);
        Self { sender, permits: Arc::new(Semaphore::new(MAX_STREAMS)) }
    }
}
