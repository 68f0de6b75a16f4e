//! Copies of stores that this process has open.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, Weak};

use redb::{Database, Durability};

use crate::error::Error;

/// The open databases of this process, by the paths of their files.
static OPEN: Mutex<BTreeMap<PathBuf, Weak<Database>>> = Mutex::new(BTreeMap::new());

/// The lock of the open databases. No copy begins while it is held.
pub(crate) type OpenDatabases = MutexGuard<'static, BTreeMap<PathBuf, Weak<Database>>>;

/// Locks the open databases.
pub(crate) fn open_databases() -> OpenDatabases {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Registers an open database.
pub(crate) fn register(path: &Path, database: Weak<Database>) {
    open_databases().insert(path.into(), database);
}

/// Copies the file of a store to a new file, which only its owner can read. The copy has all confirmed
/// changes, like the file after a power failure. Writers wait meanwhile. This blocks the thread.
///
/// # Errors
/// Returns an error if a file cannot be read or written, or the new file exists.
pub fn copy(path: &Path, to: &Path) -> Result<(), Error> {
    // Upgraded under the lock, so that no compaction begins in between.
    let database = open_databases().get(path).and_then(Weak::upgrade);
    // No transaction changes the file while this one is open, and it changes nothing itself.
    let _held = match &database {
        Some(database) => {
            // Writes the pages of unflushed commits to the file.
            let mut flush = database.begin_write()?;
            flush.set_durability(Durability::Immediate)?;
            flush.commit()?;
            Some(database.begin_write()?)
        }
        None => None,
    };
    let failed = |e: io::Error| Error::from(redb::Error::Io(e));
    let mut from = std::fs::File::open(path).map_err(failed)?;
    let new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to);
    let mut new = new.map_err(failed)?;
    io::copy(&mut from, &mut new).map_err(failed)?;
    new.sync_all().map_err(failed)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use redb::{ReadableDatabase as _, TableDefinition};

    use super::*;
    use crate::Store;

    const TABLE: TableDefinition<'_, u64, u64> = TableDefinition::new("t");

    #[test]
    fn copy_has_confirmed_changes_of_an_open_store() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.redb");
        let store = Store::open(&path, 1 << 20).unwrap();
        for number in 0..100 {
            let access = store.access().unwrap();
            let transaction = access.begin_write().unwrap();
            transaction.open_table(TABLE).unwrap().insert(number, number).unwrap();
            if number % 2 == 0 {
                access.commit_unflushed(transaction).unwrap();
            } else {
                access.commit(transaction).unwrap();
            }
        }
        let to = folder.path().join("b.redb");
        copy(&path, &to).unwrap();
        assert!(copy(&path, &to).is_err(), "it exists");
        // The store works as before.
        let access = store.access().unwrap();
        access.commit(access.begin_write().unwrap()).unwrap();
        let copied = Database::open(&to).unwrap();
        let read = copied.begin_read().unwrap();
        let table = read.open_table(TABLE).unwrap();
        for number in 0..100 {
            assert_eq!(table.get(number).unwrap().unwrap().value(), number);
        }
    }
}
