//! The store of a CSE that does not run.

use std::path::Path;

use redb::{Database, ReadableDatabase};

use crate::budget::RequestBudget;
use crate::store::error::StoreError;
use crate::store::read::Read;
use crate::store::{SnapshotTables, snapshot_tables};

/// The file of a store that is only read. No gateway can have it open.
pub(crate) struct StoppedStore {
    // Protects the pages of the tables from reuse.
    _database: Database,
    tables: SnapshotTables,
}

impl StoppedStore {
    /// Opens the file, which is not created. After a kill it is repaired first, as at a start of the
    /// gateway.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let database = Database::open(path).map_err(saegis_store::Error::from)?;
        let transaction = database.begin_read().map_err(saegis_store::Error::from)?;
        let tables = snapshot_tables(&transaction, &RequestBudget::unlimited())?;
        Ok(Self { _database: database, tables })
    }

    /// Returns the interface for lookups.
    pub(crate) fn read(&self) -> &dyn Read {
        &self.tables
    }
}

/// Moves the content of a file together, and returns whether the file has become smaller.
pub(crate) fn compact(path: &Path) -> Result<bool, StoreError> {
    let mut database = Database::open(path).map_err(saegis_store::Error::from)?;
    let before = length(path);
    while database.compact().map_err(saegis_store::Error::from)? {}
    drop(database);
    Ok(length(path) < before)
}

fn length(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |meta| meta.len())
}
