//! Durable stores: redb files that are reopened after a failure.
//!
//! After a failed write, redb rejects all further work with the open database, because the state on
//! disk is unknown. Reopening the file repairs it. So [`Store`] suspects a database after a
//! failure, closes it at the next access and reopens the file:
//!
//! - The file is never created a second time. An empty store would look like one that lost all its
//!   content.
//! - After a failure, writes pause for [`PAUSE`], and a file that could not be opened is not tried
//!   again for the same time. Reopening a large store after each of many failures, as on a full
//!   disk, would also block its readers.
//!
//! Only the owner of the file can read it.
//!
//! Several transactions can share one flush to disk: all but the last are committed with
//! [`Access::commit_unflushed`]. Readers see them only after the flush. So a reader never sees a
//! change that a crash undoes.
//!
//! Read [`Store`] first, then [`Access`], which lends the database for transactions. [`Error`] has
//! no content of the store.

mod copy;
mod error;

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, TryLockError};
use std::time::{Duration, Instant};

use redb::backends::InMemoryBackend;
use redb::{
    CompactionError, Database, Durability, ReadTransaction, ReadableDatabase, WriteTransaction,
};

pub use copy::copy;
pub use error::Error;

/// Time after a failure in which a store is neither written nor reopened.
pub const PAUSE: Duration = Duration::from_secs(1);

/// A store in a file or in memory.
pub struct Store {
    /// Path of the file; `None` for a store in memory.
    path: Option<PathBuf>,
    /// Maximum memory that redb uses for pages, in bytes.
    cache: usize,
    slot: RwLock<Slot>,
    /// Whether the database must be reopened before its next use.
    suspected: AtomicBool,
    /// Last failure, until a write succeeds.
    pause: Mutex<Option<Pause>>,
}

#[derive(Default)]
struct Slot {
    /// The open database; `None` while the file is closed.
    database: Option<Arc<Database>>,
    /// Whether the file was open before, and must not be created again.
    was_open: bool,
    /// Number of times that the file was opened.
    opened: u64,
    /// The last flushed state, while later commits are not flushed.
    flushed: Mutex<Option<Arc<ReadTransaction>>>,
}

impl Slot {
    /// Code that holds the lock does not panic.
    fn flushed(&self) -> MutexGuard<'_, Option<Arc<ReadTransaction>>> {
        self.flushed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Pause {
    until: Instant,
    why: String,
}

impl Store {
    /// Returns a store whose file is opened or created at the first access. `cache` bounds the memory
    /// that redb uses for pages, in bytes; a larger transaction goes to disk.
    #[must_use]
    pub fn new(path: &Path, cache: usize) -> Self {
        Self::with(Some(path.into()), cache)
    }

    /// Returns a store in memory.
    #[must_use]
    pub fn in_memory(cache: usize) -> Self {
        Self::with(None, cache)
    }

    fn with(path: Option<PathBuf>, cache: usize) -> Self {
        Self {
            path,
            cache,
            slot: RwLock::default(),
            suspected: AtomicBool::new(true),
            pause: Mutex::default(),
        }
    }

    /// Opens the file, or creates it.
    ///
    /// # Errors
    /// Returns an error if the file cannot be opened or created.
    pub fn open(path: &Path, cache: usize) -> Result<Self, Error> {
        let store = Self::new(path, cache);
        store.access()?;
        Ok(store)
    }

    /// Returns access to the database, and reopens the file first if necessary.
    ///
    /// # Errors
    /// Returns an error if the file cannot be opened.
    pub fn access(&self) -> Result<Access<'_>, Error> {
        self.access_if(|_| true)
    }

    /// Returns access to the database, and rejects a reopened file for which `ours` returns
    /// `false`.
    ///
    /// # Errors
    /// Returns an error if the file cannot be opened, or was replaced.
    pub fn access_if(&self, ours: impl FnOnce(&Database) -> bool) -> Result<Access<'_>, Error> {
        let reopened = self.is_suspected() && self.reopen(ours)?;
        let slot = self.slot.read().unwrap_or_else(PoisonError::into_inner);
        Ok(Access { store: self, slot, reopened })
    }

    /// Marks the database as suspected, for example after an error in a transaction. The pause of
    /// writes starts immediately, because the file may be reopened much later.
    pub fn suspect(&self) {
        if !self.suspected.swap(true, Ordering::AcqRel) {
            self.pause("the store has failed recently".into());
        }
    }

    /// Returns whether the store has failed and no write has succeeded since.
    #[must_use]
    pub fn fails(&self) -> bool {
        self.paused().is_some() || self.is_suspected()
    }

    fn is_suspected(&self) -> bool {
        self.suspected.load(Ordering::Acquire)
    }

    fn paused(&self) -> std::sync::MutexGuard<'_, Option<Pause>> {
        self.pause.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pause(&self, why: String) {
        *self.paused() = Some(Pause { until: Instant::now() + PAUSE, why });
    }

    fn check_pause(&self) -> Result<(), Error> {
        match &*self.paused() {
            Some(pause) if Instant::now() < pause.until => Err(Error::Paused(pause.why.clone())),
            _ => Ok(()),
        }
    }

    /// Reopens the file. Returns whether it was open before, and `false` if another thread reopened
    /// it.
    fn reopen(&self, ours: impl FnOnce(&Database) -> bool) -> Result<bool, Error> {
        // Waits until the database is not in use.
        let mut slot = self.slot.write().unwrap_or_else(PoisonError::into_inner);
        if !self.is_suspected() {
            return Ok(false);
        }
        // A file cannot be opened twice, and a read transaction keeps it open. A file that was open
        // until now is reopened immediately; only writes pause.
        *slot.flushed() = None;
        if slot.database.take().is_none() {
            self.check_pause()?;
        }
        let opened = self.open_file(slot.was_open).and_then(|database| {
            if slot.was_open && !ours(&database) { Err(Error::Replaced) } else { Ok(database) }
        });
        let opened = Arc::new(opened.inspect_err(|error| self.pause(error.to_string()))?);
        if let Some(path) = &self.path {
            copy::register(path, Arc::downgrade(&opened));
        }
        slot.database = Some(opened);
        slot.opened += 1;
        let reopened = std::mem::replace(&mut slot.was_open, true);
        self.suspected.store(false, Ordering::Release);
        Ok(reopened)
    }

    /// Moves the content of the file together, so that the file becomes smaller. Returns `None` if the
    /// store is in use, and never waits for its users. They wait for the end of a compaction.
    ///
    /// A process that is killed meanwhile loses nothing: the next opening repairs the file.
    ///
    /// # Errors
    /// Returns an error if the database fails; it is then suspected.
    pub fn try_compact(&self) -> Result<Option<bool>, Error> {
        self.try_compact_by(Database::compact)
    }

    fn try_compact_by(
        &self,
        compact: impl FnOnce(&mut Database) -> Result<bool, CompactionError>,
    ) -> Result<Option<bool>, Error> {
        let Some(path) = &self.path else { return Ok(None) };
        let mut slot = match self.slot.try_write() {
            Ok(slot) => slot,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(None),
        };
        if self.is_suspected() || slot.flushed().is_some() {
            return Ok(None);
        }
        let mut open = copy::open_databases();
        let Some(database) = slot.database.take() else { return Ok(None) };
        let mut unfinished = SuspectOnDrop(Some(self));
        let (database, compacted) = match Arc::try_unwrap(database) {
            Ok(mut database) => {
                let compacted = compact(&mut database);
                (Arc::new(database), Some(compacted))
            }
            // It is being copied.
            Err(database) => (database, None),
        };
        open.insert(path.clone(), Arc::downgrade(&database));
        slot.database = Some(database);
        unfinished.0 = None;
        match compacted.transpose() {
            Ok(compacted) => Ok(compacted),
            Err(CompactionError::TransactionInProgress) => Ok(None),
            Err(error) => {
                self.suspect();
                Err(error.into())
            }
        }
    }

    fn open_file(&self, was_open: bool) -> Result<Database, Error> {
        let mut builder = Database::builder();
        builder.set_cache_size(self.cache);
        let Some(path) = &self.path else {
            // A failed store in memory has lost its content.
            let lost = was_open.then(|| std::io::Error::other("it was in memory"));
            return match lost {
                Some(lost) => Err(redb::Error::Io(lost).into()),
                None => Ok(builder.create_with_backend(InMemoryBackend::new())?),
            };
        };
        if was_open {
            return Ok(builder.open(path)?);
        }
        let made = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
        made.map_err(redb::Error::Io)?;
        Ok(builder.create(path)?)
    }
}

/// Marks the database as suspected when it is dropped: the file was closed, and a panic has prevented
/// that it is opened again.
struct SuspectOnDrop<'s>(Option<&'s Store>);

impl Drop for SuspectOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(store) = self.0 {
            store.suspect();
        }
    }
}

/// Access to the database of a store, which stays open while this value exists.
pub struct Access<'s> {
    store: &'s Store,
    slot: RwLockReadGuard<'s, Slot>,
    reopened: bool,
}

impl Access<'_> {
    /// Returns whether this access reopened the file after a failure.
    #[must_use]
    pub fn reopened(&self) -> bool {
        self.reopened
    }

    fn run<T, E: Into<redb::Error>>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, E>,
    ) -> Result<T, Error> {
        // Another thread may have failed to open it in between.
        let database = self.slot.database.as_ref();
        let database = database.ok_or_else(|| Error::Paused("the store is closed".into()))?;
        Ok(work(database).inspect_err(|_| self.store.suspect())?)
    }

    /// Returns the number of times that the file was opened. Unflushed commits of an earlier time
    /// may be lost.
    #[must_use]
    pub fn opened(&self) -> u64 {
        self.slot.opened
    }

    /// Begins a read transaction, which sees flushed commits only.
    ///
    /// # Errors
    /// Returns an error if the database fails; it is then suspected.
    pub fn begin_read(&self) -> Result<Arc<ReadTransaction>, Error> {
        self.begin_read_with(&self.slot.flushed())
    }

    /// Begins a read transaction while the lock of the flushed state is held, so that no unflushed
    /// commit comes in between.
    fn begin_read_with(
        &self,
        flushed: &Option<Arc<ReadTransaction>>,
    ) -> Result<Arc<ReadTransaction>, Error> {
        match flushed {
            Some(flushed) => Ok(flushed.clone()),
            None => self.run(Database::begin_read).map(Arc::new),
        }
    }

    /// Begins a write transaction, which sees all commits.
    ///
    /// # Errors
    /// Returns an error if the store has failed recently, or the database fails; it is then
    /// suspected.
    pub fn begin_write(&self) -> Result<WriteTransaction, Error> {
        self.store.check_pause()?;
        self.run(|database| {
            let mut transaction = database.begin_write()?;
            transaction.set_durability(Durability::Immediate)?;
            Ok::<_, redb::Error>(transaction)
        })
    }

    /// Commits a transaction and flushes it to disk, together with all unflushed commits.
    ///
    /// # Errors
    /// Returns an error if the flush failed; the database is then suspected.
    pub fn commit(&self, transaction: WriteTransaction) -> Result<(), Error> {
        self.run(|_| transaction.commit())?;
        *self.slot.flushed() = None;
        *self.store.paused() = None;
        Ok(())
    }

    /// Commits a transaction without a flush. Later write transactions see it immediately, and
    /// readers after the next [`commit`](Self::commit) or [`flush`](Self::flush). A crash before
    /// that undoes it.
    ///
    /// # Errors
    /// Returns an error if nothing was committed; the database is then suspected.
    pub fn commit_unflushed(&self, mut transaction: WriteTransaction) -> Result<(), Error> {
        {
            let mut flushed = self.slot.flushed();
            let before = self.begin_read_with(&flushed)?;
            *flushed = Some(before);
        }
        self.run(|_| {
            transaction.set_durability(Durability::None)?;
            transaction.commit()?;
            Ok::<_, redb::Error>(())
        })
    }

    /// Flushes all unflushed commits to disk.
    ///
    /// # Errors
    /// Returns an error if the flush failed; the database is then suspected.
    pub fn flush(&self) -> Result<(), Error> {
        let transaction = self.begin_write()?;
        self.commit(transaction)
    }
}

#[cfg(test)]
mod tests;
