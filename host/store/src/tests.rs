use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use redb::{ReadableTable as _, TableDefinition};

use super::*;

const TABLE: TableDefinition<'_, &str, u64> = TableDefinition::new("table");
const CACHE: usize = 1 << 20;

fn set(store: &Store, value: u64) -> Result<(), Error> {
    let access = store.access()?;
    let transaction = access.begin_write()?;
    transaction.open_table(TABLE)?.insert("a", value)?;
    access.commit(transaction)
}

fn get(store: &Store) -> Result<u64, Error> {
    let table = store.access()?.begin_read()?.open_table(TABLE)?;
    Ok(table.get("a")?.map(|value| value.value()).unwrap_or_default())
}

fn store() -> (tempfile::TempDir, PathBuf, Store) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let store = Store::open(&path, CACHE).unwrap();
    set(&store, 1).unwrap();
    (folder, path, store)
}

#[test]
fn new_store_file_is_private() {
    let (_folder, path, store) = store();
    let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600, "{mode:o}");
    drop(store);
    assert_eq!(get(&Store::open(&path, CACHE).unwrap()).unwrap(), 1);
}

#[test]
fn failed_store_is_read_at_once_and_written_later() {
    let (_folder, _path, store) = store();
    assert!(!store.fails() && !store.access().unwrap().reopened());
    store.suspect();
    assert!(store.fails());
    assert!(store.access().unwrap().reopened());
    assert!(!store.access().unwrap().reopened());
    assert_eq!(get(&store).unwrap(), 1);
    assert!(set(&store, 2).unwrap_err().is_paused());
    assert!(store.fails());
    std::thread::sleep(PAUSE);
    set(&store, 2).unwrap();
    assert!(!store.fails());
    assert_eq!(get(&store).unwrap(), 2);
}

#[test]
fn missing_store_file_is_not_created_again() {
    let (_folder, path, store) = store();
    fs::remove_file(&path).unwrap();
    store.suspect();
    assert!(matches!(get(&store), Err(Error::Database(_))));
    // The file is not checked at each access.
    assert!(get(&store).unwrap_err().is_paused());
    assert!(set(&store, 2).unwrap_err().is_paused());
    std::thread::sleep(PAUSE);
    assert!(matches!(set(&store, 2), Err(Error::Database(_))));
    assert!(store.fails() && !path.exists());
}

#[test]
fn another_file_in_its_place_is_rejected() {
    let (folder, path, store) = store();
    let other = folder.path().join("other.redb");
    drop(Store::open(&other, CACHE).unwrap());
    fs::rename(&other, &path).unwrap();
    store.suspect();
    let ours = |database: &Database| database.begin_read().unwrap().open_table(TABLE).is_ok();
    assert!(matches!(store.access_if(ours).err(), Some(Error::Replaced)));
    assert!(store.fails());
}

#[test]
fn invalid_store_file_is_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    fs::write(&path, "no store").unwrap();
    assert!(Store::open(&path, CACHE).is_err());
    assert!(Store::open(&folder.path().join("no/folder"), CACHE).is_err());
    assert_eq!(fs::read(&path).unwrap(), b"no store");
}

#[test]
fn failed_memory_store_is_not_replaced() {
    let store = Store::in_memory(CACHE);
    set(&store, 1).unwrap();
    assert_eq!(get(&store).unwrap(), 1);
    store.suspect();
    assert!(get(&store).is_err());
}

/// Two threads may report the same failure, one of them after the file was reopened.
#[test]
fn late_failure_does_not_block_readers() {
    let (_folder, _path, store) = store();
    store.suspect();
    assert_eq!(get(&store).unwrap(), 1);
    store.suspect();
    assert_eq!(get(&store).unwrap(), 1);
    assert!(set(&store, 2).unwrap_err().is_paused());
}

/// The pause starts with the failure, not with the next access.
#[test]
fn store_is_writable_after_pause() {
    let (_folder, _path, store) = store();
    store.suspect();
    std::thread::sleep(PAUSE);
    set(&store, 2).unwrap();
    assert_eq!(get(&store).unwrap(), 2);
}

/// Returns what a process finds in the file after a crash at this moment.
fn after_crash(path: &Path) -> u64 {
    let copy = path.with_extension("copy");
    fs::copy(path, &copy).unwrap();
    get(&Store::open(&copy, CACHE).unwrap()).unwrap()
}

fn set_unflushed(store: &Store, value: u64) {
    let access = store.access().unwrap();
    let transaction = access.begin_write().unwrap();
    transaction.open_table(TABLE).unwrap().insert("a", value).unwrap();
    access.commit_unflushed(transaction).unwrap();
}

#[test]
fn unflushed_commit_is_invisible_to_readers_until_flush() {
    let (_folder, path, store) = store();
    let old = store.access().unwrap().begin_read().unwrap();
    set_unflushed(&store, 2);
    set_unflushed(&store, 3);
    assert_eq!(get(&store).unwrap(), 1);
    assert_eq!(after_crash(&path), 1);
    {
        let access = store.access().unwrap();
        let transaction = access.begin_write().unwrap();
        let table = transaction.open_table(TABLE).unwrap();
        assert_eq!(table.get("a").unwrap().unwrap().value(), 3, "the next writer sees it");
    }
    assert_eq!(get(&store).unwrap(), 1, "an aborted transaction flushes nothing");
    store.access().unwrap().flush().unwrap();
    assert_eq!(get(&store).unwrap(), 3);
    assert_eq!(after_crash(&path), 3);
    assert_eq!(old.open_table(TABLE).unwrap().get("a").unwrap().unwrap().value(), 1);
}

#[test]
fn commit_flushes_earlier_commits() {
    let (_folder, path, store) = store();
    set_unflushed(&store, 2);
    let access = store.access().unwrap();
    let transaction = access.begin_write().unwrap();
    access.commit(transaction).unwrap();
    assert_eq!(get(&store).unwrap(), 2);
    assert_eq!(after_crash(&path), 2);
}

#[test]
fn reopened_store_is_distinguishable() {
    let (_folder, _path, store) = store();
    let opened = store.access().unwrap().opened();
    set_unflushed(&store, 2);
    assert_eq!(store.access().unwrap().opened(), opened);
    store.suspect();
    assert_eq!(store.access().unwrap().opened(), opened + 1);
    assert!(get(&store).is_ok());
    assert!(store.access().unwrap().flush().unwrap_err().is_paused());
}

#[test]
fn store_is_reopened_after_panic_in_compaction() {
    let (_folder, _path, store) = store();
    let compaction = std::panic::AssertUnwindSafe(|| {
        let _ = store.try_compact_by(|_| panic!("a fault of the database"));
    });
    std::panic::catch_unwind(compaction).unwrap_err();
    std::thread::sleep(PAUSE);
    assert_eq!(get(&store).unwrap(), 1);
    set(&store, 2).unwrap();
    assert_eq!(get(&store).unwrap(), 2);
}
