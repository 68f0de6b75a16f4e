//! The errors of the store.

use crate::budget::StopReason;

/// The error of a failed store. It has no content of a resource.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The file could not be opened, read or written.
    #[error(transparent)]
    File(#[from] saegis_store::Error),
    /// A table could not be opened.
    #[error(transparent)]
    Table(#[from] redb::TableError),
    /// Reading or writing failed.
    #[error(transparent)]
    Storage(#[from] redb::StorageError),
    /// The entry with this resource-ID is unreadable, or refers to a missing one.
    #[error("the resource {0} in the store is damaged")]
    Corrupt(String),
    /// The flush of several commits failed, which included the own one.
    #[error("the flush to disk failed: {0}")]
    Flush(String),
    /// The store is intact; the request must stop.
    #[error(transparent)]
    Stopped(#[from] StopReason),
}
