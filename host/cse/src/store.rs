//! The durable store: a redb file with the resources and their indices.
//!
//! | table | key | value |
//! |---|---|---|
//! | `resources` | resource-ID | the [`Record`](crate::record::Record) in JSON |
//! | `names` | parent's resource-ID, name | resource-ID |
//! | `children` | parent's resource-ID, type, sequence | resource-ID |
//! | `expiry` | expiration time, resource-ID | empty |
//! | `aging` | container's resource-ID, expiration time, resource-ID of an instance | its size |
//! | `labels` | label, resource-ID | empty |
//! | `created` | owner, creation time, resource-ID | 0 |
//! | `awaits` | AE-ID-Stem, number of a wait for its registrant, resource-ID of a waiting resource | empty |
//! | `firsts` | AE-ID-Stem, number of a completed wait | the registrant |
//! | `detached` | resource-ID of the top of a deleted subtree that is not removed yet | empty |
//! | `usage` | owner, empty for the CSE itself | number of its resources, and their bytes |
//! | `pending` | resource-ID of a subscription, number | an event that waits to be sent |
//! | `due` | time, resource-ID of a subscription with waiting events | empty |
//! | `retries` | resource-ID of a subscription, number | a notification that its target has not received yet |
//! | `announcements_by_owner` | owner, time, resource-ID of a resource that is announced, or the address of an announcement to delete | empty |
//! | `generated` | timeSeries's resource-ID, generation time in milliseconds | resource-ID of the instance |
//! | `monitored` | owner, resource-ID of a timeSeries whose missing data are detected | empty |
//! | `about` | `schema`, `cse`, `compacted` | the version of this layout, the CSE-ID, the length after the last compaction |
//!
//! A request sees one snapshot, or one transaction, which is committed to disk completely or not at
//! all. Waiting writers share the flush to disk ([`group_commit`]). Every lookup is a walk down one
//! tree: the latest instance of a container is found as fast as the oldest.

mod aging;
mod announcements;
mod awaits;
mod error;
mod file;
mod group_commit;
mod labels;
mod monitors;
mod pending;
pub(crate) mod polling_queues;
mod read;
mod retries;
pub(crate) mod stopped;
mod tables;
mod ticket_lock;
mod write;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use redb::{ReadOnlyTable, ReadTransaction, ReadableTable};
use saegis_store::Access;

pub(crate) use self::announcements::DueAnnouncement;
pub use self::error::StoreError;
use self::group_commit::{WriteTurn, Writers};
use self::read::Tables;
pub(crate) use self::read::{Child, Edge, Read};
use self::tables::{
    AGING, Bytes, CHILDREN, CREATED, ChildKey, DETACHED, DUE, EXPIRY, FIRSTS, Id, LABELS, NAMES,
    Name, RESOURCES, TimedKey, USAGE, WaitKey,
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
    ReadOnlyTable<Name, ()>,
>;

/// Opens the tables of a snapshot.
fn snapshot_tables(
    transaction: &ReadTransaction,
    budget: &RequestBudget,
) -> Result<SnapshotTables, StoreError> {
    Ok(Tables {
        budget: budget.clone(),
        resources: transaction.open_table(RESOURCES)?,
        names: transaction.open_table(NAMES)?,
        children: transaction.open_table(CHILDREN)?,
        firsts: transaction.open_table(FIRSTS)?,
        aging: transaction.open_table(AGING)?,
        labels: transaction.open_table(LABELS)?,
        created: transaction.open_table(CREATED)?,
    })
}

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
    path: PathBuf,
    file: saegis_store::Store,
    writers: Writers,
}

impl Store {
    /// Opens the file, or creates it. Also returns whether it has tables already.
    pub(crate) fn open(path: &Path) -> Result<(Self, bool), StoreError> {
        let store = Self {
            path: path.into(),
            file: saegis_store::Store::open(path, MAX_CACHE_BYTES)?,
            writers: Writers::default(),
        };
        let access = store.access()?;
        let in_use = access.begin_read()?.list_tables()?.next().is_some();
        awaits::convert(&access)?;
        drop(access);
        Ok((store, in_use))
    }

    /// Returns the length of the file, or 0 if it is not known.
    pub(crate) fn length(&self) -> u64 {
        std::fs::metadata(&self.path).map_or(0, |metadata| metadata.len())
    }

    /// Returns the size of the stored resources and notifications. Their indices are smaller.
    pub(crate) fn data_bytes(&self) -> Result<u64, StoreError> {
        let access = self.access()?;
        let usage = access.begin_read()?.open_table(USAGE)?;
        let mut bytes = 0u64;
        for entry in usage.iter()? {
            bytes = bytes.saturating_add(entry?.1.value().1);
        }
        Ok(bytes)
    }

    /// Compacts the file. Returns `None` if it is in use.
    pub(crate) fn try_compact(&self) -> Result<Option<bool>, StoreError> {
        Ok(self.file.try_compact()?)
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
            tables: snapshot_tables(&transaction, budget)?,
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

    /// Returns whether events of a subscription are due.
    pub(crate) fn has_due(&self, now: Seconds) -> Result<bool, StoreError> {
        let access = self.access()?;
        let due = access.begin_read()?.open_table(DUE)?;
        Ok(due.first()?.is_some_and(|(key, _)| key.value().0 <= now))
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
        let begun = Instant::now();
        let written = self.write_in_turn(&turn, budget, work);
        // A refusal may be due to a commit that is not flushed yet.
        let flush = turn.end();
        budget.add_writing_time(begun.elapsed());
        let flushed = flush.map_or(Ok(()), |flush| flush.wait());
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
