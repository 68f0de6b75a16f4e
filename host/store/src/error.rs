//! The error of a store.

/// The error of a store that cannot be opened, read or written. It has no content of the store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file cannot be opened, read or written.
    #[error(transparent)]
    Database(Box<redb::Error>),
    /// The file was replaced by another one.
    #[error("the file was replaced by another one")]
    Replaced,
    /// The store has failed recently, and is not tried again yet.
    #[error("{0}; it is not retried yet")]
    Paused(String),
}

impl<E: Into<redb::Error>> From<E> for Error {
    fn from(error: E) -> Self {
        Self::Database(Box::new(error.into()))
    }
}

impl Error {
    /// Returns whether the store was not tried because of the pause.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        matches!(self, Self::Paused(_))
    }
}
