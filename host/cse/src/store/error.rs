//! Failures of the store.

use crate::budget::Stop;

/// The store failed. None of the variants holds content of a resource.
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
    /// What is stored under this resource-ID can't be read, or leads nowhere.
    #[error("the resource {0} in the store is damaged")]
    Corrupt(String),
    /// The store is sound; the request has to stop.
    #[error(transparent)]
    Stopped(#[from] Stop),
}
