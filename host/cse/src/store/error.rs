//! Failures of the store.

use crate::budget::Stop;

/// The store failed. None of the variants holds content of a resource.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The file could not be opened.
    #[error(transparent)]
    Database(#[from] redb::DatabaseError),
    /// A transaction could not be begun.
    #[error(transparent)]
    Transaction(#[from] redb::TransactionError),
    /// A table could not be opened.
    #[error(transparent)]
    Table(#[from] redb::TableError),
    /// Reading or writing failed.
    #[error(transparent)]
    Storage(#[from] redb::StorageError),
    /// A transaction could not be committed: nothing of it holds.
    #[error(transparent)]
    Commit(#[from] redb::CommitError),
    /// A durable commit can't be had.
    #[error(transparent)]
    Durability(#[from] redb::SetDurabilityError),
    /// The file could not be opened anew after a failure.
    #[error("the store is closed after a failure")]
    Closed,
    /// Writing has just failed, and is not tried again for a while.
    #[error("the store could not be written a moment ago, and is not tried again yet")]
    Paused,
    /// What is stored under this resource-ID can't be read, or leads nowhere.
    #[error("the resource {0} in the store is damaged")]
    Corrupt(String),
    /// The store is sound; the request has to stop.
    #[error(transparent)]
    Stopped(#[from] Stop),
}
