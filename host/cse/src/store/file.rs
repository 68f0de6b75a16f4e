//! Access to the file of the store.

use saegis_store::{Access, Store};

use crate::store::error::StoreError;

/// Returns access to the file, and reopens it first if necessary.
pub(super) fn access(file: &Store) -> Result<Access<'_>, StoreError> {
    let access = file.access()?;
    if access.reopened() {
        tracing::warn!(event = "cse.store-reopened", "CSE store reopened after a failure");
    }
    Ok(access)
}
