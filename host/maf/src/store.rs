//! The durable store: a redb file with encrypted entries and their indices.
//!
//! | table | key | value |
//! |---|---|---|
//! | `clients` | entry ID of the client | the encrypted [`ClientRecord`] |
//! | `keys` | entry ID of the key | the encrypted [`StoredKey`] |
//! | `owned` | entry ID of the source, entry ID of the key | empty |
//! | `expiry` | expiration time, kind, entry ID | empty |
//! | `about` | `schema`, `proof` | version of this layout; proof of the right key |
//!
//! An entry ID is a keyed hash of the MAF Client ID or of the RelativeKeyID. Without the store's key,
//! the file reveals the number of entries, their lengths and expiration times, and which keys have
//! the same source, but not the clients. The indices are not encrypted, and only locate entries; the
//! content of an entry is authoritative.
//!
//! A request sees one snapshot, or one transaction, which is committed to disk completely or not at
//! all.

use std::path::Path;

use redb::{
    Database, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata, Table,
    TableDefinition, TableHandle,
};
use saegis_store::Access;

use crate::kind::{Kind, vault_of};
use crate::record::{ClientRecord, Damaged, Seconds, StoredKey};
use saegis_vault::StoreKey;
use saegis_vault::{EntryId, SealError, Vault};

pub(crate) type Id = &'static EntryId;
pub(crate) type Sealed = &'static [u8];
pub(crate) type Expiry = (Seconds, u8, Id);

pub(crate) const CLIENTS: TableDefinition<'_, Id, Sealed> = TableDefinition::new("clients");
pub(crate) const KEYS: TableDefinition<'_, Id, Sealed> = TableDefinition::new("keys");
pub(crate) const OWNED: TableDefinition<'_, (Id, Id), ()> = TableDefinition::new("owned");
pub(crate) const EXPIRY: TableDefinition<'_, Expiry, ()> = TableDefinition::new("expiry");
pub(crate) const ABOUT: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("about");

const SCHEMA: &str = "schema";
const PROOF: &str = "proof";
/// Version of this layout.
const VERSION: &[u8] = b"2";
/// First version, in which each client has one registration. It is read, and written anew as this
/// version.
const FIRST_VERSION: &[u8] = b"1";
/// Plain text of the proof.
const RIGHT_KEY: &[u8] = b"saegis MAF store";
/// Entry ID of the proof, which is in none of the entry tables.
const PROOF_ENTRY_ID: EntryId = [0; 32];

/// Maximum memory that redb uses for pages, in bytes. A larger transaction goes to disk.
const CACHE: usize = 32 << 20;

/// The error of a failed store. It has no content of an entry.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The file could not be opened, read or written.
    #[error(transparent)]
    File(saegis_store::Error),
    /// An entry was not written by this program with this key under this entry ID.
    #[error("an entry of the store is damaged or was moved")]
    Damaged,
    /// An entry cannot be encrypted.
    #[error("an entry of the store cannot be encrypted")]
    Seal,
}

impl<E: Into<saegis_store::Error>> From<E> for StoreError {
    fn from(error: E) -> Self {
        Self::File(error.into())
    }
}

impl From<Damaged> for StoreError {
    fn from(_: Damaged) -> Self {
        Self::Damaged
    }
}

/// The reason why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The store was written under another key. It is left unchanged.
    #[error("the store was written with another key")]
    WrongKey,
    /// The file is a database, but not that of a MAF.
    #[error("the file is a database, but not the store of a MAF")]
    Foreign,
    /// The store has another layout.
    #[error("the layout of the store is not supported")]
    Schema,
    /// Reading or writing failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl<E: Into<saegis_store::Error>> From<E> for OpenError {
    fn from(error: E) -> Self {
        Self::Store(StoreError::from(error))
    }
}

/// The store of a MAF.
pub(crate) struct Store {
    vault: Vault,
    file: saegis_store::Store,
}

pub(crate) fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE);
    builder
}

/// Returns whether the database is a MAF's store under this key, and `false` if it is empty.
pub(crate) fn is_ours(transaction: &ReadTransaction, vault: &Vault) -> Result<bool, OpenError> {
    let mut tables = transaction.list_tables()?;
    let Some(first) = tables.next() else { return Ok(false) };
    if first.name() != ABOUT.name() && !tables.any(|table| table.name() == ABOUT.name()) {
        return Err(OpenError::Foreign);
    }
    // A table with this name and other types belongs to another program.
    let about = transaction.open_table(ABOUT).map_err(|error| match error {
        redb::TableError::TableTypeMismatch { .. } => OpenError::Foreign,
        other => other.into(),
    })?;
    let (schema, proof) = (about.get(SCHEMA)?, about.get(PROOF)?);
    let (Some(schema), Some(proof)) = (schema, proof) else { return Err(OpenError::Foreign) };
    if ![VERSION, FIRST_VERSION].contains(&schema.value()) {
        return Err(OpenError::Schema);
    }
    match vault.open(Kind::Proof, &PROOF_ENTRY_ID, proof.value()) {
        Some(plain) if plain.as_slice() == RIGHT_KEY => Ok(true),
        _ => Err(OpenError::WrongKey),
    }
}

/// Returns whether the store has this layout's version; other versions must not write to it then.
fn is_of_this_version(transaction: &ReadTransaction) -> Result<bool, OpenError> {
    let about = transaction.open_table(ABOUT)?;
    Ok(about.get(SCHEMA)?.is_some_and(|schema| schema.value() == VERSION))
}

/// Writes the version and the proof of the key.
pub(crate) fn write_proof(
    transaction: &redb::WriteTransaction,
    vault: &Vault,
) -> Result<(), StoreError> {
    let proof = vault
        .seal(Kind::Proof, &PROOF_ENTRY_ID, RIGHT_KEY)
        .map_err(|SealError| StoreError::Seal)?;
    let mut about = transaction.open_table(ABOUT)?;
    about.insert(SCHEMA, VERSION)?;
    about.insert(PROOF, proof.as_slice())?;
    Ok(())
}

impl Store {
    /// Opens the file, or creates it.
    pub(crate) fn open(path: &Path, key: &StoreKey) -> Result<Self, OpenError> {
        let vault = vault_of(key);
        let file = saegis_store::Store::open(path, CACHE)?;
        {
            let access = file.access()?;
            let found = access.begin_read()?;
            if !is_ours(&found, &vault)? || !is_of_this_version(&found)? {
                let transaction = access.begin_write()?;
                write_proof(&transaction, &vault)?;
                drop(Writer::of(&transaction, &vault)?);
                access.commit(transaction)?;
            }
        }
        Ok(Self { vault, file })
    }

    pub(crate) fn vault(&self) -> &Vault {
        &self.vault
    }

    /// Makes the next access reopen the file after an error of the database.
    pub(crate) fn record_failure(&self, error: &StoreError) {
        if matches!(error, StoreError::File(error) if !error.is_paused()) {
            self.file.suspect();
        }
    }

    /// Returns whether the store has failed and no write has succeeded since.
    pub(crate) fn fails(&self) -> bool {
        self.file.fails()
    }

    fn access(&self) -> Result<Access<'_>, StoreError> {
        // A file that another one replaced is rejected.
        let ours = |database: &Database| {
            let transaction = database.begin_read().map_err(OpenError::from);
            transaction
                .and_then(|transaction| is_ours(&transaction, &self.vault))
                .is_ok_and(|ours| ours)
        };
        let access = self.file.access_if(ours)?;
        if access.reopened() {
            tracing::warn!(event = "maf.store-reopened", "MAF store reopened after a failure");
        }
        Ok(access)
    }

    /// Reads from a snapshot of the store.
    pub(crate) fn read<T, E: From<StoreError>>(
        &self,
        work: impl FnOnce(&Snapshot<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let access = self.access()?;
        let transaction = access.begin_read().map_err(StoreError::from)?;
        let snapshot = Snapshot {
            vault: &self.vault,
            clients: transaction.open_table(CLIENTS).map_err(StoreError::from)?,
            keys: transaction.open_table(KEYS).map_err(StoreError::from)?,
        };
        work(&snapshot)
    }

    /// Returns whether an expired entry is still stored.
    pub(crate) fn has_expired(&self, now: Seconds) -> Result<bool, StoreError> {
        let access = self.access()?;
        let expiry = access.begin_read()?.open_table(EXPIRY)?;
        Ok(expiry.first()?.is_some_and(|(key, _)| key.value().0 <= now))
    }

    /// Runs a write transaction. If it returns `Ok`, all changes are on disk; if it returns `Err`,
    /// none of them is.
    pub(crate) fn write<T, E: From<StoreError>>(
        &self,
        work: impl FnOnce(&mut Writer<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let access = self.access()?;
        let transaction = access.begin_write().map_err(StoreError::from)?;
        let done = work(&mut Writer::of(&transaction, &self.vault)?)?;
        access.commit(transaction).map_err(StoreError::from)?;
        Ok(done)
    }
}

/// A snapshot of the store.
pub(crate) struct Snapshot<'s> {
    vault: &'s Vault,
    clients: redb::ReadOnlyTable<Id, Sealed>,
    keys: redb::ReadOnlyTable<Id, Sealed>,
}

impl Snapshot<'_> {
    pub(crate) fn client(&self, entry_id: &EntryId) -> Result<Option<ClientRecord>, StoreError> {
        client(self.vault, &self.clients, entry_id)
    }

    /// Returns the encrypted entry of a key, if it exists.
    pub(crate) fn sealed_key(&self, entry_id: &EntryId) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.keys.get(entry_id)?.map(|entry| entry.value().to_vec()))
    }
}

fn client(
    vault: &Vault,
    table: &impl ReadableTable<Id, Sealed>,
    entry_id: &EntryId,
) -> Result<Option<ClientRecord>, StoreError> {
    let Some(entry) = table.get(entry_id)? else { return Ok(None) };
    let plain = vault.open(Kind::Client, entry_id, entry.value()).ok_or(StoreError::Damaged)?;
    Ok(Some(ClientRecord::read(&plain)?))
}

/// Decrypts the entry of a key.
pub(crate) fn open_key(
    vault: &Vault,
    entry_id: &EntryId,
    sealed: &[u8],
) -> Result<StoredKey, StoreError> {
    let plain = vault.open(Kind::Key, entry_id, sealed).ok_or(StoreError::Damaged)?;
    Ok(StoredKey::read(&plain)?)
}

/// A write transaction that maintains the indices.
pub(crate) struct Writer<'t> {
    vault: &'t Vault,
    clients: Table<'t, Id, Sealed>,
    keys: Table<'t, Id, Sealed>,
    owned: Table<'t, (Id, Id), ()>,
    expiry: Table<'t, Expiry, ()>,
}

impl<'t> Writer<'t> {
    pub(crate) fn of(
        transaction: &'t redb::WriteTransaction,
        vault: &'t Vault,
    ) -> Result<Self, StoreError> {
        Ok(Self {
            vault,
            clients: transaction.open_table(CLIENTS)?,
            keys: transaction.open_table(KEYS)?,
            owned: transaction.open_table(OWNED)?,
            expiry: transaction.open_table(EXPIRY)?,
        })
    }

    pub(crate) fn vault(&self) -> &'t Vault {
        self.vault
    }

    pub(crate) fn client(&self, entry_id: &EntryId) -> Result<Option<ClientRecord>, StoreError> {
        client(self.vault, &self.clients, entry_id)
    }

    pub(crate) fn key(&self, entry_id: &EntryId) -> Result<Option<StoredKey>, StoreError> {
        let Some(entry) = self.keys.get(entry_id)? else { return Ok(None) };
        open_key(self.vault, entry_id, entry.value()).map(Some)
    }

    /// Returns the number of clients.
    pub(crate) fn clients(&self) -> Result<u64, StoreError> {
        Ok(self.clients.len()?)
    }

    /// Returns the number of keys, including removed ones with a reserved RelativeKeyID.
    pub(crate) fn keys(&self) -> Result<u64, StoreError> {
        Ok(self.keys.len()?)
    }

    /// Returns up to `limit` keys of a source.
    pub(crate) fn owned(&self, source: &EntryId, limit: usize) -> Result<Vec<EntryId>, StoreError> {
        let range = (source, &[0; 32])..=(source, &[0xff; 32]);
        let entry_ids = self.owned.range::<(&EntryId, &EntryId)>(range)?.take(limit);
        entry_ids.map(|entry| Ok(*entry?.0.value().1)).collect()
    }

    pub(crate) fn put_client(&mut self, record: &ClientRecord) -> Result<(), StoreError> {
        let entry_id = self.vault.entry_id(Kind::Client, &record.id);
        if let Some(old) = self.client(&entry_id)? {
            self.expiry.remove((old.first_end(), Kind::Client as u8, &entry_id))?;
        }
        let sealed = self
            .vault
            .seal(Kind::Client, &entry_id, &record.write()?)
            .map_err(|SealError| StoreError::Seal)?;
        self.clients.insert(&entry_id, sealed.as_slice())?;
        self.expiry.insert((record.first_end(), Kind::Client as u8, &entry_id), ())?;
        Ok(())
    }

    pub(crate) fn put_key(&mut self, stored: &StoredKey) -> Result<(), StoreError> {
        let entry_id = self.vault.entry_id(Kind::Key, &stored.record.relative);
        if let Some(old) = self.key(&entry_id)? {
            self.expiry.remove((old.record.expires, Kind::Key as u8, &entry_id))?;
        }
        let sealed = self
            .vault
            .seal(Kind::Key, &entry_id, &stored.write()?)
            .map_err(|SealError| StoreError::Seal)?;
        self.keys.insert(&entry_id, sealed.as_slice())?;
        self.expiry.insert((stored.record.expires, Kind::Key as u8, &entry_id), ())?;
        let source = self.vault.entry_id(Kind::Client, &stored.record.source);
        self.owned.insert((&source, &entry_id), ())?;
        Ok(())
    }

    /// Removes a key with its index entries.
    pub(crate) fn remove_key(
        &mut self,
        entry_id: &EntryId,
        stored: &StoredKey,
    ) -> Result<(), StoreError> {
        let source = self.vault.entry_id(Kind::Client, &stored.record.source);
        self.keys.remove(entry_id)?;
        self.owned.remove((&source, entry_id))?;
        self.expiry.remove((stored.record.expires, Kind::Key as u8, entry_id))?;
        Ok(())
    }

    /// Removes a key that is damaged or missing. The time of its entry in the expiry index is
    /// unknown, so this entry stays, and then points to nothing.
    pub(crate) fn remove_damaged_key(
        &mut self,
        source: &EntryId,
        entry_id: &EntryId,
    ) -> Result<(), StoreError> {
        self.keys.remove(entry_id)?;
        self.owned.remove((source, entry_id))?;
        Ok(())
    }

    /// Removes a client with its registrations. The caller removes its keys first.
    pub(crate) fn remove_client(
        &mut self,
        entry_id: &EntryId,
        record: &ClientRecord,
    ) -> Result<(), StoreError> {
        self.clients.remove(entry_id)?;
        self.expiry.remove((record.first_end(), Kind::Client as u8, entry_id))?;
        Ok(())
    }

    /// Returns up to `limit` expired entries, the oldest first.
    pub(crate) fn expired(
        &self,
        now: Seconds,
        limit: usize,
    ) -> Result<Vec<(Seconds, u8, EntryId)>, StoreError> {
        let end = (now.saturating_add(1), 0, &[0; 32]);
        let entries = self.expiry.range::<(Seconds, u8, &EntryId)>(..end)?.take(limit);
        entries
            .map(|entry| {
                let key = entry?.0;
                let (at, kind, entry_id) = key.value();
                Ok((at, kind, *entry_id))
            })
            .collect()
    }

    /// Removes an entry of the expiry index.
    pub(crate) fn remove_from_expiry(
        &mut self,
        entry: &(Seconds, u8, EntryId),
    ) -> Result<(), StoreError> {
        self.expiry.remove((entry.0, entry.1, &entry.2))?;
        Ok(())
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
