//! The durable store: a redb file with the resources and their indices.
//!
//! | table | key | value |
//! |---|---|---|
//! | `resources` | resource-ID | the [`Record`](crate::record::Record) in JSON |
//! | `names` | parent's resource-ID, name | resource-ID |
//! | `children` | parent's resource-ID, type, sequence | resource-ID |
//! | `expiry` | expiration time, resource-ID | empty |
//! | `aging` | container's resource-ID, expiration time, resource-ID of an instance | its size |
//! | `awaits` | AE-ID-Stem, number of a wait for its registrant, resource-ID of a waiting resource | empty |
//! | `firsts` | AE-ID-Stem, number of a completed wait | the registrant |
//! | `detached` | resource-ID of the top of a deleted subtree that is not removed yet | empty |
//! | `usage` | owner | number of its resources, and their bytes |
//! | `about` | `schema`, `cse` | the version of this layout, the CSE-ID |
//!
//! A request sees one snapshot, or one transaction, which is committed to disk completely or not at
//! all. Waiting writers share the flush to disk ([`group_commit`]). Every lookup is a walk down one
//! tree: the latest instance of a container is found as fast as the oldest.

mod aging;
mod awaits;
mod error;
mod file;
mod group_commit;
pub(crate) mod polling_queues;
mod read;
mod tables;
mod ticket_lock;
mod write;

use std::path::Path;
use std::sync::Arc;

use redb::{ReadOnlyTable, ReadTransaction, ReadableTable};
use saegis_store::Access;

pub use self::error::StoreError;
use self::group_commit::{WriteTurn, Writers};
use self::read::Tables;
pub(crate) use self::read::{Child, Edge, Read};
use self::tables::{
    AGING, Bytes, CHILDREN, ChildKey, DETACHED, EXPIRY, FIRSTS, Id, NAMES, Name, RESOURCES,
    TimedKey, WaitKey,
};
pub(crate) use self::write::{Usage, Writer};
use crate::budget::{AuthorityGuard, RequestBudget};
use crate::record::Seconds;

/// Maximum memory that redb uses for pages, in bytes. A larger transaction goes to disk.
const MAX_CACHE_BYTES: usize = 32 << 20;

/// The tables of a snapshot.
type SnapshotTables = Tables<
    ReadOnlyTable<Id, Bytes>,
    ReadOnlyTable<Name, Id>,
    ReadOnlyTable<ChildKey, Id>,
    ReadOnlyTable<WaitKey, Id>,
    ReadOnlyTable<TimedKey, u64>,
>;

/// A consistent view of the store.
pub(crate) struct Snapshot<'s> {
    tables: SnapshotTables,
    // Protects the pages of the tables from reuse.
    _transaction: Arc<ReadTransaction>,
    _access: Access<'s>,
}

impl Snapshot<'_> {
    /// Returns the interface for lookups.
    pub(crate) fn read(&self) -> &dyn Read {
        &self.tables
    }
}

/// The store of a CSE.
pub(crate) struct Store {
    file: saegis_store::Store,
    writers: Writers,
}

impl Store {
    /// Opens the file, or creates it. Also returns whether it has tables already.
    pub(crate) fn open(path: &Path) -> Result<(Self, bool), StoreError> {
        let store = Self {
            file: saegis_store::Store::open(path, MAX_CACHE_BYTES)?,
            writers: Writers::default(),
        };
        let access = store.access()?;
        let in_use = access.begin_read()?.list_tables()?.next().is_some();
        awaits::convert(&access)?;
        drop(access);
        Ok((store, in_use))
    }

    /// Makes the next access reopen the file after an error of the database.
    pub(crate) fn suspect(&self) {
        self.file.suspect();
    }

    /// Returns whether the store has failed and no write has succeeded since.
    pub(crate) fn fails(&self) -> bool {
        self.file.fails()
    }

    fn access(&self) -> Result<Access<'_>, StoreError> {
        file::access(&self.file)
    }

    /// Returns a snapshot of the store on disk, whose lookups take steps of a budget.
    pub(crate) fn snapshot(&self, budget: &RequestBudget) -> Result<Snapshot<'_>, StoreError> {
        let access = self.access()?;
        let transaction = access.begin_read()?;
        Ok(Snapshot {
            tables: Tables {
                budget: budget.clone(),
                resources: transaction.open_table(RESOURCES)?,
                names: transaction.open_table(NAMES)?,
                children: transaction.open_table(CHILDREN)?,
                firsts: transaction.open_table(FIRSTS)?,
                aging: transaction.open_table(AGING)?,
            },
            _transaction: transaction,
            _access: access,
        })
    }

    /// Returns whether an expired resource is still stored.
    pub(crate) fn has_expired(&self, now: Seconds) -> Result<bool, StoreError> {
        let access = self.access()?;
        let expiry = access.begin_read()?.open_table(EXPIRY)?;
        Ok(expiry.first()?.is_some_and(|(key, _)| key.value().0 <= now))
    }

    /// Returns whether a deleted subtree is not removed yet.
    pub(crate) fn has_detached(&self) -> Result<bool, StoreError> {
        let access = self.access()?;
        let detached = access.begin_read()?.open_table(DETACHED)?;
        Ok(detached.first()?.is_some())
    }

    /// Runs a write transaction. If it returns `Ok`, all changes are on disk; if it returns `Err`,
    /// none of them is, unless the flush failed. The commit requires the budget's authority, and
    /// fails if the request must stop. The authority is held until the changes are on disk.
    pub(crate) fn write<T, E: From<StoreError>>(
        &self,
        budget: &RequestBudget,
        work: impl FnOnce(&mut Writer<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let turn = WriteTurn::wait(&self.writers, &self.file, budget.is_low_priority());
        let written = self.write_in_turn(&turn, budget, work);
        // A refusal may be due to a commit that is not flushed yet.
        let flushed = turn.end().map_or(Ok(()), |flush| flush.wait());
        let (done, _held) = written?;
        flushed?;
        Ok(done)
    }

    fn write_in_turn<'b, T, E: From<StoreError>>(
        &self,
        turn: &WriteTurn<'_>,
        budget: &'b RequestBudget,
        work: impl FnOnce(&mut Writer<'_>) -> Result<T, E>,
    ) -> Result<(T, AuthorityGuard<'b>), E> {
        let access = self.access()?;
        // The request may have been stopped while it waited.
        budget.check().map_err(StoreError::from)?;
        let transaction = access.begin_write().map_err(StoreError::from)?;
        let done = {
            let mut writer = Writer::open(&transaction, &budget.while_writing())?;
            let done = work(&mut writer)?;
            writer.settle_usage()?;
            done
        };
        let held = budget.hold().map_err(StoreError::from)?;
        turn.commit(&access, transaction)?;
        Ok((done, held))
    }
}

#[cfg(test)]
impl Store {
    /// Converts the waits to the format of a version that rewrote the resources.
    pub(crate) fn as_before_waits(&self) {
        awaits::revert(&self.access().unwrap());
    }
}

#[cfg(test)]
mod tests;
