//! Questions to a store's thread, and its answers.

use tokio::sync::oneshot;

/// A question to a store's thread. The lengths of keys and values were checked.
pub(crate) enum Question {
    Get(Vec<String>),
    Set(Vec<(String, Vec<u8>)>),
    Delete(Vec<String>),
    Increment(String, u64),
    Keys { from: u64 },
}

/// Its answer.
pub(crate) enum Answer {
    Values(Vec<Option<Vec<u8>>>),
    Done,
    Number(u64),
    Keys { keys: Vec<String>, next: Option<u64> },
    Failed(String),
}

/// A question on its way to a store's thread.
pub(super) struct Asked {
    pub question: Question,
    /// The quota, in bytes.
    pub quota: u64,
    pub answer: oneshot::Sender<Answer>,
}
