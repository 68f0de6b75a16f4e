//! The durable store: a redb file with the resources and the indices that lead to them.
//!
//! | table | key | value |
//! |---|---|---|
//! | `resources` | resource-ID | the [`Record`] in JSON |
//! | `names` | parent's resource-ID, name | resource-ID |
//! | `children` | parent's resource-ID, type, sequence | resource-ID |
//! | `expiry` | expiration time, resource-ID | nothing |
//! | `aging` | container's resource-ID, expiration time, resource-ID of an instance | its size |
//! | `awaits` | AE-ID-Stem, number of a wait for its registrant, resource-ID of a resource that asks | nothing |
//! | `firsts` | AE-ID-Stem, number of a wait that is over | the registrant |
//! | `detached` | resource-ID | nothing: the top of a subtree that was deleted and is not removed yet |
//! | `usage` | owner | how many resources are its, and their bytes |
//! | `about` | `schema`, `cse` | the version of this layout, the CSE-ID |
//!
//! A request sees one snapshot, or one transaction that is committed whole, to disk, or not at
//! all. Every look-up is a walk down one tree: the latest instance of a container is found as fast
//! as the oldest.

mod aging;
mod awaits;
mod error;
pub(crate) mod polling_queues;
mod read;
mod tables;
mod ticket_lock;
mod write;

use std::path::Path;

use redb::{ReadOnlyTable, ReadTransaction, ReadableTable};
use saegis_store::Access;

pub use self::error::StoreError;
use self::read::Tables;
pub(crate) use self::read::{Child, Edge, Read};
use self::tables::{
    AGING, Bytes, CHILDREN, DETACHED, EXPIRY, FIRSTS, Id, NAMES, Name, RESOURCES, Slot, Timed, Wait,
};
use self::ticket_lock::TicketLock;
pub(crate) use self::write::{Usage, Writer};
use crate::budget::RequestBudget;
use crate::record::Seconds;

/// Memory that redb may use for pages, in bytes. A transaction larger than this goes to disk.
const MAX_CACHE_BYTES: usize = 32 << 20;

/// The tables of a snapshot, and those of a transaction.
type Seen = Tables<
    ReadOnlyTable<Id, Bytes>,
    ReadOnlyTable<Name, Id>,
    ReadOnlyTable<Slot, Id>,
    ReadOnlyTable<Wait, Id>,
    ReadOnlyTable<Timed, u64>,
>;

/// A consistent view of the store.
pub(crate) struct Snapshot<'s> {
    tables: Seen,
    // Keeps the pages that the tables read from being used again.
    _transaction: ReadTransaction,
    _access: Access<'s>,
}

impl Snapshot<'_> {
    /// What can be looked up.
    pub(crate) fn read(&self) -> &dyn Read {
        &self.tables
    }
}

/// The store.
pub(crate) struct Store {
    file: saegis_store::Store,
    /// Those who write, one at a time and in the order in which they came.
    writers: TicketLock,
}

impl Store {
    /// Opens the file, or makes it. Also tells whether it holds tables of its own already.
    pub(crate) fn open(path: &Path) -> Result<(Self, bool), StoreError> {
        let store = Self {
            file: saegis_store::Store::open(path, MAX_CACHE_BYTES)?,
            writers: TicketLock::default(),
        };
        let access = store.access()?;
        let in_use = access.begin_read()?.list_tables()?.next().is_some();
        awaits::convert(&access)?;
        drop(access);
        Ok((store, in_use))
    }

    /// Has the file reopened before it is used, after an error of the database.
    pub(crate) fn suspect(&self) {
        self.file.suspect();
    }

    /// Whether it has failed, and has not been written since.
    pub(crate) fn fails(&self) -> bool {
        self.file.fails()
    }

    fn access(&self) -> Result<Access<'_>, StoreError> {
        let access = self.file.access()?;
        if access.reopened() {
            tracing::warn!(
                event = "cse.store-reopened",
                "the CSE's store was opened anew after a failure"
            );
        }
        Ok(access)
    }

    /// Looks at the store as it is now, with look-ups from a budget.
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

    /// Whether something has expired by itself and is still stored.
    pub(crate) fn has_expired(&self, now: Seconds) -> Result<bool, StoreError> {
        let access = self.access()?;
        let expiry = access.begin_read()?.open_table(EXPIRY)?;
        Ok(expiry.first()?.is_some_and(|(key, _)| key.value().0 <= now))
    }

    /// Whether a subtree was deleted and is not removed yet.
    pub(crate) fn has_detached(&self) -> Result<bool, StoreError> {
        let access = self.access()?;
        let detached = access.begin_read()?.open_table(DETACHED)?;
        Ok(detached.first()?.is_some())
    }

    /// Changes the store: all that `work` does is on disk when this returns `Ok`, and none of it
    /// holds when it returns `Err`. The commit is made under the budget's authority, and not when
    /// the request has to stop.
    pub(crate) fn write<T, E: From<StoreError>>(
        &self,
        budget: &RequestBudget,
        work: impl FnOnce(&mut Writer<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let _turn = self.writers.wait(budget.gives_way());
        let access = self.access()?;
        // It may have had to stop while it waited.
        budget.check().map_err(StoreError::from)?;
        let transaction = access.begin_write().map_err(StoreError::from)?;
        let done = {
            let mut writer = Writer::open(&transaction, budget)?;
            let done = work(&mut writer)?;
            writer.settle_usage()?;
            done
        };
        let held = budget.hold().map_err(StoreError::from)?;
        access.commit(transaction).map_err(StoreError::from)?;
        drop(held);
        Ok(done)
    }
}

#[cfg(test)]
impl Store {
    /// Makes the waits what a version left that rewrote the resources.
    pub(crate) fn as_before_waits(&self) {
        awaits::revert(&self.access().unwrap());
    }
}

#[cfg(test)]
mod tests;
