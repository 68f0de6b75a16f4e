//! Durable stores: redb files that are reopened after a failure.
//!
//! After a failed write redb refuses all further work with the database at hand, because nobody knows
//! what is on disk. Opened anew, the file is repaired. So a failure makes the database suspected, and the
//! next access closes it and opens the file again:
//!
//! - The file is never created a second time. An empty store in its place would look like one that has
//!   forgotten everything.
//! - After a failure nothing is written for [`PAUSE`], and a file that could not be opened is left alone for
//!   as long: to open a large store after each of many failures, as on a full disk, would keep it from being
//!   read too.
//!
//! The file is readable by its owner alone.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use redb::backends::InMemoryBackend;
use redb::{Database, Durability, ReadTransaction, ReadableDatabase, WriteTransaction};

/// How long a store is neither written nor opened again after a failure.
pub const PAUSE: Duration = Duration::from_secs(1);

/// A store can't be opened, read or written. No variant holds content of the store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file can't be opened, read or written.
    #[error(transparent)]
    Database(Box<redb::Error>),
    /// The file was replaced by another.
    #[error("another file is in the place of the store")]
    Replaced,
    /// The store has failed a moment ago, and is not tried again yet.
    #[error("{0}; it is not tried again yet")]
    Paused(String),
}

impl<E: Into<redb::Error>> From<E> for Error {
    fn from(error: E) -> Self {
        Self::Database(Box::new(error.into()))
    }
}

impl Error {
    /// Whether the store was not even tried.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        matches!(self, Self::Paused(_))
    }
}

/// A store in a file, or in memory.
pub struct Store {
    /// None, where the store is in memory.
    path: Option<PathBuf>,
    /// Maximum memory that redb uses for pages, in bytes.
    cache: usize,
    slot: RwLock<Slot>,
    /// Whether the database is to be opened before it is used.
    suspected: AtomicBool,
    /// The last failure, until something is written.
    pause: Mutex<Option<Pause>>,
}

#[derive(Default)]
struct Slot {
    /// None while the file is not open.
    database: Option<Database>,
    /// Whether the file was open before, and may not be created any more.
    was_open: bool,
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
    /// When it can't be opened or created.
    pub fn open(path: &Path, cache: usize) -> Result<Self, Error> {
        let store = Self::new(path, cache);
        store.access()?;
        Ok(store)
    }

    /// Returns access to the database, after opening the file if that is due.
    ///
    /// # Errors
    /// When the file can't be opened.
    pub fn access(&self) -> Result<Access<'_>, Error> {
        self.access_if(|_| true)
    }

    /// Does the same, and rejects a file that is opened again and is not `ours` any more.
    ///
    /// # Errors
    /// When the file can't be opened, or was replaced.
    pub fn access_if(&self, ours: impl FnOnce(&Database) -> bool) -> Result<Access<'_>, Error> {
        let reopened = self.is_suspected() && self.reopen(ours)?;
        let slot = self.slot.read().unwrap_or_else(PoisonError::into_inner);
        Ok(Access { store: self, slot, reopened })
    }

    /// Marks the database as not to be trusted, as after an error in a transaction. The pause of writes
    /// begins now, for the file may not be opened again until much later.
    pub fn suspect(&self) {
        if !self.suspected.swap(true, Ordering::AcqRel) {
            self.pause("the store has failed a moment ago".into());
        }
    }

    /// Whether the store has failed and has not been written since.
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

    /// Opens the file again. Returns whether it was open before; false, where another thread did it.
    fn reopen(&self, ours: impl FnOnce(&Database) -> bool) -> Result<bool, Error> {
        // Waits until nobody uses the database.
        let mut slot = self.slot.write().unwrap_or_else(PoisonError::into_inner);
        if !self.is_suspected() {
            return Ok(false);
        }
        // A file can't be opened twice. One that could be opened last time is opened at once: only
        // writes are held up.
        if slot.database.take().is_none() {
            self.check_pause()?;
        }
        let opened = self.open_file(slot.was_open).and_then(|database| {
            if slot.was_open && !ours(&database) { Err(Error::Replaced) } else { Ok(database) }
        });
        slot.database = Some(opened.inspect_err(|error| self.pause(error.to_string()))?);
        let reopened = std::mem::replace(&mut slot.was_open, true);
        self.suspected.store(false, Ordering::Release);
        Ok(reopened)
    }

    fn open_file(&self, was_open: bool) -> Result<Database, Error> {
        let mut builder = Database::builder();
        builder.set_cache_size(self.cache);
        let Some(path) = &self.path else {
            // One that has failed has lost its content.
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

/// Access to the database of a store, which stays open for as long as this is held.
pub struct Access<'s> {
    store: &'s Store,
    slot: RwLockReadGuard<'s, Slot>,
    reopened: bool,
}

impl Access<'_> {
    /// Whether this access has opened the file again after a failure.
    #[must_use]
    pub fn reopened(&self) -> bool {
        self.reopened
    }

    fn run<T, E: Into<redb::Error>>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, E>,
    ) -> Result<T, Error> {
        // Another thread may have failed to open it between.
        let database = self.slot.database.as_ref();
        let database = database.ok_or_else(|| Error::Paused("the store is closed".into()))?;
        Ok(work(database).inspect_err(|_| self.store.suspect())?)
    }

    /// Begins to read the store as it is now.
    ///
    /// # Errors
    /// When the database fails, which is then suspected.
    pub fn begin_read(&self) -> Result<ReadTransaction, Error> {
        self.run(Database::begin_read)
    }

    /// Begins a transaction that is on disk once it is committed.
    ///
    /// # Errors
    /// When the store has failed a moment ago, or the database fails, which is then suspected.
    pub fn begin_write(&self) -> Result<WriteTransaction, Error> {
        self.store.check_pause()?;
        self.run(|database| {
            let mut transaction = database.begin_write()?;
            transaction.set_durability(Durability::Immediate)?;
            Ok::<_, redb::Error>(transaction)
        })
    }

    /// Commits a transaction.
    ///
    /// # Errors
    /// When nothing of it holds; the database is then suspected.
    pub fn commit(&self, transaction: WriteTransaction) -> Result<(), Error> {
        self.run(|_| transaction.commit())?;
        *self.store.paused() = None;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
