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

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use redb::{Database, Durability, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable};

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
const CACHE: usize = 32 << 20;

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
    _database: Open<'s>,
}

impl Snapshot<'_> {
    /// What can be looked up.
    pub(crate) fn read(&self) -> &dyn Read {
        &self.tables
    }
}

/// The store.
///
/// After a failed write redb refuses all further work with the database at hand, for nobody knows
/// what is on disk. Opened anew, it is repaired. So whoever meets an error calls
/// [`suspect`](Store::suspect), and the next who comes opens the file again.
pub(crate) struct Store {
    path: PathBuf,
    /// None while the file can't be opened.
    database: RwLock<Option<Database>>,
    suspected: AtomicBool,
    /// Those who write, one at a time and in the order in which they came.
    writers: TicketLock,
    /// Until when nothing is written: to open a large store anew after each of many failures, as on
    /// a full disk, would keep it from being read too.
    paused_until: Mutex<Option<Instant>>,
}

/// How long nothing is written after a failure.
const PAUSE: Duration = Duration::from_secs(1);

/// A database that is not opened anew for as long as this is held.
struct Open<'s>(RwLockReadGuard<'s, Option<Database>>);

impl Open<'_> {
    fn get(&self) -> Result<&Database, StoreError> {
        self.0.as_ref().ok_or(StoreError::Closed)
    }
}

fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE);
    builder
}

impl Store {
    /// Opens the file, or makes it. Also tells whether it holds tables of its own already.
    pub(crate) fn open(path: &Path) -> Result<(Self, bool), StoreError> {
        let database = builder().create(path)?;
        let in_use = database.begin_read()?.list_tables()?.next().is_some();
        awaits::convert(&database)?;
        let database = RwLock::new(Some(database));
        let store = Self {
            path: path.into(),
            database,
            suspected: AtomicBool::new(false),
            writers: TicketLock::default(),
            paused_until: Mutex::new(None),
        };
        Ok((store, in_use))
    }

    /// The database is not to be trusted after an error: it is opened anew before it is used.
    pub(crate) fn suspect(&self) {
        self.suspected.store(true, Ordering::Release);
    }

    fn is_suspected(&self) -> bool {
        self.suspected.load(Ordering::Acquire)
    }

    /// Whether it has failed, and has not been written since.
    pub(crate) fn fails(&self) -> bool {
        let paused = self.paused_until.lock().unwrap_or_else(PoisonError::into_inner);
        paused.is_some() || self.is_suspected()
    }

    fn database(&self) -> Result<Open<'_>, StoreError> {
        if self.is_suspected() {
            // Waits for those who are using it.
            let mut place = self.database.write().unwrap_or_else(PoisonError::into_inner);
            // Another may have been here first.
            if self.is_suspected() {
                // The file can't be opened twice. Nor is one made, should it have gone: an empty
                // store in its place would look like one that has forgotten everything.
                drop(place.take());
                *place = Some(builder().open(&self.path)?);
                *self.paused_until.lock().unwrap_or_else(PoisonError::into_inner) =
                    Some(Instant::now() + PAUSE);
                self.suspected.store(false, Ordering::Release);
                tracing::warn!(
                    event = "cse.store-reopened",
                    "the CSE's store was opened anew after a failure"
                );
            }
        }
        Ok(Open(self.database.read().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Looks at the store as it is now, with look-ups from a budget.
    pub(crate) fn snapshot(&self, budget: &RequestBudget) -> Result<Snapshot<'_>, StoreError> {
        let database = self.database()?;
        let transaction = database.get()?.begin_read()?;
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
            _database: database,
        })
    }

    /// Whether something has expired by itself and is still stored.
    pub(crate) fn has_expired(&self, now: Seconds) -> Result<bool, StoreError> {
        let database = self.database()?;
        let expiry = database.get()?.begin_read()?.open_table(EXPIRY)?;
        Ok(expiry.first()?.is_some_and(|(key, _)| key.value().0 <= now))
    }

    /// Whether a subtree was deleted and is not removed yet.
    pub(crate) fn has_detached(&self) -> Result<bool, StoreError> {
        let database = self.database()?;
        let detached = database.get()?.begin_read()?.open_table(DETACHED)?;
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
        let _turn = self.writers.wait();
        let database = self.database()?;
        let paused = *self.paused_until.lock().unwrap_or_else(PoisonError::into_inner);
        if paused.is_some_and(|until| Instant::now() < until) {
            return Err(StoreError::Paused.into());
        }
        // It may have had to stop while it waited.
        budget.check().map_err(StoreError::from)?;
        let mut transaction = database.get()?.begin_write().map_err(StoreError::from)?;
        transaction.set_durability(Durability::Immediate).map_err(StoreError::from)?;
        let done = {
            let mut writer = Writer::open(&transaction, budget)?;
            let done = work(&mut writer)?;
            writer.settle_usage()?;
            done
        };
        let held = budget.hold().map_err(StoreError::from)?;
        transaction.commit().map_err(StoreError::from)?;
        drop(held);
        *self.paused_until.lock().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(done)
    }
}

#[cfg(test)]
impl Store {
    /// Makes the waits what a version left that rewrote the resources.
    pub(crate) fn as_before_waits(&self) {
        awaits::revert(self.database().unwrap().get().unwrap());
    }
}

#[cfg(test)]
mod tests;
