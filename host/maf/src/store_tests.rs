use std::collections::BTreeSet;
use std::path::PathBuf;

use super::*;
use crate::kind::vault_of;
use crate::maf::Maf;
use crate::record::Registration;
use crate::testing::{
    Bench, GATEWAY, LIGHT, OTHER, client, code_and_text, export, id, key_of, session, settings,
    store_key,
};

type Entry = (EntryId, Vec<u8>);

/// Returns all entries of an encrypted table.
fn entries(path: &Path, table: TableDefinition<'_, Id, Sealed>) -> Vec<Entry> {
    let database = builder().open(path).unwrap();
    let table = database.begin_read().unwrap().open_table(table).unwrap();
    let entries = table.iter().unwrap().map(|e| e.unwrap());
    entries.map(|(entry_id, sealed)| (*entry_id.value(), sealed.value().to_vec())).collect()
}

fn overwrite(
    path: &Path,
    table: TableDefinition<'_, Id, Sealed>,
    entry_id: &EntryId,
    sealed: &[u8],
) {
    let database = builder().open(path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(table).unwrap().insert(entry_id, sealed).unwrap();
    transaction.commit().unwrap();
}

/// Returns a closed store with two sources, each of which has a key for the gateway.
fn closed() -> (tempfile::TempDir, PathBuf, [String; 2]) {
    let bench = Bench::new();
    for who in [LIGHT, OTHER, GATEWAY] {
        bench.registered(who, 400);
    }
    let keys = [(LIGHT, 0xe1), (OTHER, 0xe2)]
        .map(|(who, value)| bench.key(who, GATEWAY, value, 100).relative_key_id);
    let path = bench.path();
    (bench.folder, path, keys)
}

fn reopened(folder: tempfile::TempDir, path: &Path, key: u8) -> Bench {
    let maf = Maf::open(path, &store_key(key), settings()).unwrap();
    Bench { folder, maf }
}

impl Store {
    /// Checks that the indices match the entries.
    fn assert_consistent(&self) {
        let access = self.access().unwrap();
        let transaction = access.begin_read().unwrap();
        let (mut expiring, mut owned) = (BTreeSet::new(), BTreeSet::new());
        for entry in transaction.open_table(CLIENTS).unwrap().iter().unwrap() {
            let (entry_id, sealed) = entry.unwrap();
            let plain = self.vault.open(Kind::Client, entry_id.value(), sealed.value()).unwrap();
            let record = ClientRecord::read(&plain).unwrap();
            assert_eq!(self.vault.entry_id(Kind::Client, &record.id), *entry_id.value());
            expiring.insert((record.first_end(), Kind::Client as u8, *entry_id.value()));
        }
        for entry in transaction.open_table(KEYS).unwrap().iter().unwrap() {
            let (entry_id, sealed) = entry.unwrap();
            let record =
                open_key(&self.vault, entry_id.value(), sealed.value()).ok().unwrap().record;
            assert_eq!(self.vault.entry_id(Kind::Key, &record.relative), *entry_id.value());
            expiring.insert((record.expires, Kind::Key as u8, *entry_id.value()));
            owned.insert((self.vault.entry_id(Kind::Client, &record.source), *entry_id.value()));
        }
        let table = transaction.open_table(EXPIRY).unwrap();
        let indexed = table.iter().unwrap().map(|e| e.unwrap().0);
        let indexed: BTreeSet<_> =
            indexed.map(|k| (k.value().0, k.value().1, *k.value().2)).collect();
        assert_eq!(indexed, expiring);
        let table = transaction.open_table(OWNED).unwrap();
        let indexed = table.iter().unwrap().map(|e| e.unwrap().0);
        let indexed: BTreeSet<_> = indexed.map(|k| (*k.value().0, *k.value().1)).collect();
        assert_eq!(indexed, owned);
    }
}

#[test]
fn store_of_first_layout_is_read_and_converted() {
    let (folder, path, keys) = closed();
    let vault = vault_of(&store_key(1));
    let entry_id = vault.entry_id(Kind::Client, LIGHT);
    let sealed = entries(&path, CLIENTS).into_iter().find(|(id, _)| *id == entry_id).unwrap().1;
    let plain = vault.open(Kind::Client, &entry_id, &sealed).unwrap();
    let mut old: serde_json::Value = serde_json::from_slice(&plain).unwrap();
    let registration = old["registrations"][0].take();
    let old = serde_json::json!({
        "id": old["id"], "registration": registration["registration"],
        "credential": registration["credential"], "expires": registration["expires"],
        "labels": registration["labels"], "admin": registration["admin"],
    });
    let plain = old.to_string();
    let sealed = vault.seal(Kind::Client, &entry_id, plain.as_bytes()).unwrap();
    overwrite(&path, CLIENTS, &entry_id, &sealed);
    let version = |wanted: Option<&[u8]>| {
        let database = builder().open(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        let mut about = transaction.open_table(ABOUT).unwrap();
        let found = about.get(SCHEMA).unwrap().unwrap().value().to_vec();
        if let Some(wanted) = wanted {
            about.insert(SCHEMA, wanted).unwrap();
        }
        drop(about);
        transaction.commit().unwrap();
        found
    };
    version(Some(FIRST_VERSION));
    let bench = reopened(folder, &path, 1);
    assert!(bench.fetch(GATEWAY, &keys[0], 1).is_ok());
    let id = registration["registration"].as_str().unwrap();
    let leave = client(LIGHT).deregister("1", id).unwrap();
    assert_eq!(bench.code_and_text(LIGHT, &leave, 1).0, 2002);
    assert!(bench.fetch(GATEWAY, &keys[0], 2).is_err());
    bench.maf.state.store.assert_consistent();
    // An earlier program refuses to open it from then on.
    let Bench { folder: _folder, maf } = bench;
    drop(maf);
    assert_eq!(version(None), VERSION);
    version(Some(b"3"));
    let newer = Maf::open(&path, &store_key(1), settings()).err().unwrap();
    assert!(matches!(newer, OpenError::Schema), "{newer}");
}

#[test]
fn another_key_does_not_open_it_and_changes_nothing() {
    let (folder, path, keys) = closed();
    let before = (entries(&path, CLIENTS), entries(&path, KEYS));
    let wrong = Maf::open(&path, &store_key(2), settings()).err().unwrap();
    assert!(matches!(wrong, OpenError::WrongKey), "{wrong}");
    let wrong = crate::reencrypt(&path, &store_key(2), &store_key(3)).unwrap_err();
    assert!(matches!(wrong, OpenError::WrongKey), "{wrong}");
    assert_eq!((entries(&path, CLIENTS), entries(&path, KEYS)), before);
    let bench = reopened(folder, &path, 1);
    assert!(keys.iter().all(|key| bench.fetch(GATEWAY, key, 1).is_ok()));
}

#[test]
fn foreign_database_is_refused_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other");
    for (n, name) in ["things", "about"].into_iter().enumerate() {
        let database = Database::create(path.with_extension(n.to_string())).unwrap();
        let transaction = database.begin_write().unwrap();
        let table: TableDefinition<'_, &str, &str> = TableDefinition::new(name);
        transaction.open_table(table).unwrap().insert("schema", "1").unwrap();
        transaction.commit().unwrap();
        drop(database);
        let path = path.with_extension(n.to_string());
        let error = Maf::open(&path, &store_key(1), settings()).err().unwrap();
        assert!(matches!(error, OpenError::Foreign), "{error}");
    }
    std::fs::write(&path, b"no database at all, but a text").unwrap();
    assert!(Maf::open(&path, &store_key(1), settings()).is_err());
    assert!(crate::reencrypt(&folder.path().join("none"), &store_key(1), &store_key(2)).is_err());
    assert!(!folder.path().join("none").exists());
}

#[test]
fn modified_entry_is_refused() {
    let (folder, path, keys) = closed();
    let vault = vault_of(&store_key(1));
    let entry_ids = keys.clone().map(|key| vault.entry_id(Kind::Key, &key));
    let stored = entries(&path, KEYS);
    let of = |entry_id: &EntryId| stored.iter().find(|(s, _)| s == entry_id).unwrap().1.clone();
    let mut changed = of(&entry_ids[0]);
    changed[10] ^= 1;
    overwrite(&path, KEYS, &entry_ids[0], &changed);
    let bench = reopened(folder, &path, 1);
    let (rsc, why) = bench.fetch(GATEWAY, &keys[0], 1).err().unwrap();
    assert_eq!((rsc, why.as_str()), (5000, r#"{"m2m:dbg":"the MAF's store failed"}"#));
    assert!(bench.fetch(GATEWAY, &keys[1], 1).is_ok());
    // The file has not failed, and neither the source nor the sweep is blocked.
    assert!(!bench.maf.store_fails());
    let light = bench.maf.state.entry_id(&id(LIGHT));
    let read = |s: &Snapshot<'_>| s.client(&light);
    let record = bench.maf.state.store.read(read).unwrap().unwrap();
    let leave = client(LIGHT).deregister("1", &record.registrations[0].id).unwrap();
    assert_eq!(bench.code_and_text(LIGHT, &leave, 1).0, 2002);
    while bench.maf.sweep(crate::testing::at(100_000)).unwrap().more {}
    bench.maf.state.store.assert_consistent();
}

#[test]
fn entries_that_change_places_are_no_entries() {
    let (folder, path, keys) = closed();
    let vault = vault_of(&store_key(1));
    let entry_ids = keys.clone().map(|key| vault.entry_id(Kind::Key, &key));
    for table in [KEYS, CLIENTS] {
        let stored = entries(&path, table);
        let rotated = stored.iter().cycle().skip(1);
        for ((entry_id, _), (_, sealed)) in stored.iter().zip(rotated) {
            overwrite(&path, table, entry_id, sealed);
        }
    }
    let bench = reopened(folder, &path, 1);
    for key in &keys {
        assert_eq!(bench.fetch(GATEWAY, key, 1).err().unwrap().0, 5000);
    }
    let read = |entry_id: &EntryId| {
        bench.maf.state.store.read(|s| Ok::<_, StoreError>(s.sealed_key(entry_id)?.unwrap()))
    };
    for entry_id in &entry_ids {
        let opened = open_key(&vault, entry_id, &read(entry_id).unwrap());
        assert!(matches!(opened.err(), Some(StoreError::Damaged)));
    }
    // The error does not reveal the content.
    assert!(!StoreError::Damaged.to_string().contains("provider"));
}

#[test]
fn store_is_reencrypted_under_new_key() {
    let (folder, path, keys) = closed();
    let bench = reopened(folder, &path, 1);
    let one = session(0x31);
    assert_eq!(bench.ask(LIGHT, Some(&one), &export(LIGHT, GATEWAY, 90), 1).rsc.code(), 2001);
    let remove = client(LIGHT).deregister_key("d", &one.relative_key_id()).unwrap();
    assert_eq!(bench.code_and_text(LIGHT, &remove, 1).0, 2002);
    // The file must not be open.
    assert!(crate::reencrypt(&path, &store_key(1), &store_key(2)).is_err());
    let Bench { folder, maf } = bench;
    drop(maf);
    let before: BTreeSet<_> =
        entries(&path, KEYS).into_iter().map(|(entry_id, _)| entry_id).collect();
    crate::reencrypt(&path, &store_key(1), &store_key(2)).unwrap();
    let after: BTreeSet<_> =
        entries(&path, KEYS).into_iter().map(|(entry_id, _)| entry_id).collect();
    assert!(before.is_disjoint(&after) && before.len() == after.len());
    let wrong = Maf::open(&path, &store_key(1), settings()).err().unwrap();
    assert!(matches!(wrong, OpenError::WrongKey));
    let bench = reopened(folder, &path, 2);
    bench.maf.state.store.assert_consistent();
    for (key, value) in keys.iter().zip([0xe1, 0xe2]) {
        assert_eq!(bench.fetch(GATEWAY, key, 2).ok().unwrap().key.expose(), key_of(value));
    }
    // The session's key is still known.
    assert_eq!(bench.ask(LIGHT, Some(&one), &export(LIGHT, OTHER, 80), 2).rsc.code(), 4105);
    // With one unreadable entry, nothing is changed.
    let Bench { folder, maf } = bench;
    drop(maf);
    let entry_id = vault_of(&store_key(2)).entry_id(Kind::Key, &keys[0]);
    overwrite(&path, KEYS, &entry_id, b"nonsense");
    let before = entries(&path, KEYS);
    let damaged = crate::reencrypt(&path, &store_key(2), &store_key(3)).unwrap_err();
    assert!(matches!(damaged, OpenError::Store(StoreError::Damaged)), "{damaged}");
    assert_eq!(entries(&path, KEYS), before);
    assert!(reopened(folder, &path, 2).fetch(GATEWAY, &keys[1], 2).is_ok());
}

#[test]
fn store_file_contains_no_name_or_key() {
    let (_folder, path, keys) = closed();
    let file = std::fs::read(&path).unwrap();
    let has = |needle: &[u8]| file.windows(needle.len()).any(|window| window == needle);
    for secret in [LIGHT, OTHER, GATEWAY, "provider", &keys[0], &keys[1]] {
        assert!(!has(secret.as_bytes()), "{secret}");
    }
    assert!(!has(&[0xe1; 4]) && !has(&[0xe2; 4]));
}

#[test]
fn store_is_reopened_after_failure() {
    let (folder, path, keys) = closed();
    let bench = reopened(folder, &path, 1);
    let store = &bench.maf.state.store;
    store.record_failure(&saegis_store::Error::Replaced.into());
    assert!(bench.maf.store_fails());
    // It is read at once, and written after the pause.
    assert!(bench.fetch(GATEWAY, &keys[0], 1).is_ok());
    let paused = bench.ask(LIGHT, None, &crate::testing::give(LIGHT, GATEWAY, 1, 90), 1);
    assert_eq!(code_and_text(&paused).0, 5000);
    assert!(bench.maf.store_fails());
    std::thread::sleep(saegis_store::PAUSE);
    bench.key(LIGHT, GATEWAY, 1, 90);
    assert!(!bench.maf.store_fails());
    store.assert_consistent();
    // A file that replaced the store is rejected.
    store.record_failure(&saegis_store::Error::Replaced.into());
    std::fs::remove_file(&path).unwrap();
    drop(Maf::open(&path, &store_key(9), settings()).unwrap());
    assert_eq!(bench.fetch(GATEWAY, &keys[0], 1).err().unwrap().0, 5000);
    assert!(bench.maf.store_fails());
}

#[test]
fn uncommitted_entry_is_not_stored() {
    let bench = Bench::new();
    let record = ClientRecord {
        id: LIGHT.into(),
        registrations: vec![Registration {
            id: "mcr-1".into(),
            credential: "11-x".into(),
            expires: u64::MAX,
            labels: vec![],
            admin: "a.b".into(),
        }],
    };
    let failed: Result<(), StoreError> = bench.maf.state.store.write(|writer| {
        writer.put_client(&record)?;
        Err(StoreError::Damaged)
    });
    assert!(failed.is_err());
    let entry_id = bench.maf.state.store.vault.entry_id(Kind::Client, LIGHT);
    let found = bench.maf.state.store.read(|s| Ok::<_, StoreError>(s.client(&entry_id)?.is_some()));
    assert!(!found.unwrap());
    bench.maf.state.store.assert_consistent();
}
