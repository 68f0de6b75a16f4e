//! Requests to the thread of a store, and its responses.

use tokio::sync::oneshot;

/// Request to the thread of a store. The lengths of keys and values are already checked.
pub(crate) enum Question {
    Get(Vec<String>),
    Set(Vec<(String, Vec<u8>)>),
    Delete(Vec<String>),
    Increment(String, u64),
    Keys { from: u64 },
}

/// Response of the thread.
pub(crate) enum Answer {
    Values(Vec<Option<Vec<u8>>>),
    Done,
    Number(u64),
    Keys { keys: Vec<String>, next: Option<u64> },
    Failed(String),
}

/// Queued request to the thread of a store.
pub(super) struct QueuedRequest {
    pub question: Question,
    /// Quota in bytes.
    pub quota: u64,
    pub answer: oneshot::Sender<Answer>,
}
