//! The durable store: a redb file with sealed entries, and the indices that lead to them.
//!
//! | table | key | value |
//! |---|---|---|
//! | `clients` | slot of the MAF Client ID | the sealed [`ClientRecord`] |
//! | `keys` | slot of the RelativeKeyID | the sealed [`StoredKey`] |
//! | `owned` | slot of the source, slot of the key | nothing |
//! | `expiry` | expiration time, kind, slot | nothing |
//! | `about` | `schema`, `proof` | the version of this layout; what only the right key opens |
//!
//! A slot is a keyed hash. So the file tells, without the store's key, how many entries there are,
//! how long each is, when it expires and which keys have the same source; not whose they are. The
//! indices are not sealed, and only say where to look: what holds is what is sealed.
//!
//! A request sees one snapshot, or one transaction that is committed whole, to disk, or not at all.

use std::path::Path;

use redb::{
    Database, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata, Table,
    TableDefinition, TableHandle,
};
use saegis_store::Access;

use crate::record::{ClientRecord, Damaged, Seconds, StoredKey};
use crate::store_key::StoreKey;
use crate::vault::{Kind, SealError, Slot, Vault};

pub(crate) type Id = &'static Slot;
pub(crate) type Sealed = &'static [u8];
pub(crate) type Expiry = (Seconds, u8, Id);

pub(crate) const CLIENTS: TableDefinition<'_, Id, Sealed> = TableDefinition::new("clients");
pub(crate) const KEYS: TableDefinition<'_, Id, Sealed> = TableDefinition::new("keys");
pub(crate) const OWNED: TableDefinition<'_, (Id, Id), ()> = TableDefinition::new("owned");
pub(crate) const EXPIRY: TableDefinition<'_, Expiry, ()> = TableDefinition::new("expiry");
pub(crate) const ABOUT: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("about");

const SCHEMA: &str = "schema";
const PROOF: &str = "proof";
/// The version of this layout.
const VERSION: &[u8] = b"1";
/// What the proof says, once opened.
const RIGHT_KEY: &[u8] = b"saegis MAF store";
/// Where the proof stands: in no table of entries.
const PROOF_SLOT: Slot = [0; 32];

/// Memory that redb may use for pages, in bytes. A transaction larger than this goes to disk.
const CACHE: usize = 32 << 20;

/// The store failed. None of the variants holds anything of an entry.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The file could not be opened, read or written.
    #[error(transparent)]
    File(saegis_store::Error),
    /// An entry was not written by this program with this key at this place.
    #[error("an entry of the store is damaged, or stands in another's place")]
    Damaged,
    /// An entry can't be sealed.
    #[error("an entry of the store can't be sealed")]
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

impl From<SealError> for StoreError {
    fn from(_: SealError) -> Self {
        Self::Seal
    }
}

/// Why a store can't be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// It was written under another store key. It is left as it is.
    #[error("the store was written under another key than the one given")]
    WrongKey,
    /// It is a database, and not one of a MAF.
    #[error("the file is a database, but not the store of a MAF")]
    Foreign,
    /// It has another layout.
    #[error("the store has a layout that this program does not know")]
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

/// The store.
pub(crate) struct Store {
    vault: Vault,
    file: saegis_store::Store,
}

pub(crate) fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE);
    builder
}

/// Whether the database is a MAF's store, and was written under this key. False for an empty one.
pub(crate) fn is_ours(transaction: &ReadTransaction, vault: &Vault) -> Result<bool, OpenError> {
    let mut tables = transaction.list_tables()?;
    let Some(first) = tables.next() else { return Ok(false) };
    if first.name() != ABOUT.name() && !tables.any(|table| table.name() == ABOUT.name()) {
        return Err(OpenError::Foreign);
    }
    // A table of that name and of other types is somebody else's too.
    let about = transaction.open_table(ABOUT).map_err(|error| match error {
        redb::TableError::TableTypeMismatch { .. } => OpenError::Foreign,
        other => other.into(),
    })?;
    let (schema, proof) = (about.get(SCHEMA)?, about.get(PROOF)?);
    let (Some(schema), Some(proof)) = (schema, proof) else { return Err(OpenError::Foreign) };
    if schema.value() != VERSION {
        return Err(OpenError::Schema);
    }
    match vault.open(Kind::Proof, &PROOF_SLOT, proof.value()) {
        Some(plain) if plain.as_slice() == RIGHT_KEY => Ok(true),
        _ => Err(OpenError::WrongKey),
    }
}

/// Writes what proves the key.
pub(crate) fn write_proof(
    transaction: &redb::WriteTransaction,
    vault: &Vault,
) -> Result<(), StoreError> {
    let proof = vault.seal(Kind::Proof, &PROOF_SLOT, RIGHT_KEY)?;
    let mut about = transaction.open_table(ABOUT)?;
    about.insert(SCHEMA, VERSION)?;
    about.insert(PROOF, proof.as_slice())?;
    Ok(())
}

impl Store {
    /// Opens the file, or makes it.
    pub(crate) fn open(path: &Path, key: &StoreKey) -> Result<Self, OpenError> {
        let vault = Vault::new(key);
        let file = saegis_store::Store::open(path, CACHE)?;
        {
            let access = file.access()?;
            if !is_ours(&access.begin_read()?, &vault)? {
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

    /// Has the file reopened before it is used, after an error of the database.
    pub(crate) fn note(&self, error: &StoreError) {
        if matches!(error, StoreError::File(error) if !error.is_paused()) {
            self.file.suspect();
        }
    }

    /// Whether it has failed, and has not been written since.
    pub(crate) fn fails(&self) -> bool {
        self.file.fails()
    }

    fn access(&self) -> Result<Access<'_>, StoreError> {
        // Another file that was put in its place is rejected.
        let ours = |database: &Database| {
            let transaction = database.begin_read().map_err(OpenError::from);
            transaction
                .and_then(|transaction| is_ours(&transaction, &self.vault))
                .is_ok_and(|ours| ours)
        };
        let access = self.file.access_if(ours)?;
        if access.reopened() {
            tracing::warn!(
                event = "maf.store-reopened",
                "the MAF's store was opened anew after a failure"
            );
        }
        Ok(access)
    }

    /// Looks at the store as it is now.
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

    /// Whether something has expired and is still stored.
    pub(crate) fn has_expired(&self, now: Seconds) -> Result<bool, StoreError> {
        let access = self.access()?;
        let expiry = access.begin_read()?.open_table(EXPIRY)?;
        Ok(expiry.first()?.is_some_and(|(key, _)| key.value().0 <= now))
    }

    /// Changes the store: all that `work` does is on disk when this returns `Ok`, and none of it
    /// holds when it returns `Err`.
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

/// The store as it was at one moment.
pub(crate) struct Snapshot<'s> {
    vault: &'s Vault,
    clients: redb::ReadOnlyTable<Id, Sealed>,
    keys: redb::ReadOnlyTable<Id, Sealed>,
}

impl Snapshot<'_> {
    pub(crate) fn client(&self, slot: &Slot) -> Result<Option<ClientRecord>, StoreError> {
        client(self.vault, &self.clients, slot)
    }

    /// The sealed entry of a key, if there is one.
    pub(crate) fn sealed_key(&self, slot: &Slot) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.keys.get(slot)?.map(|entry| entry.value().to_vec()))
    }
}

fn client(
    vault: &Vault,
    table: &impl ReadableTable<Id, Sealed>,
    slot: &Slot,
) -> Result<Option<ClientRecord>, StoreError> {
    let Some(entry) = table.get(slot)? else { return Ok(None) };
    let plain = vault.open(Kind::Client, slot, entry.value()).ok_or(StoreError::Damaged)?;
    Ok(Some(ClientRecord::read(&plain)?))
}

/// Opens the sealed entry of a key.
pub(crate) fn open_key(vault: &Vault, slot: &Slot, sealed: &[u8]) -> Result<StoredKey, StoreError> {
    let plain = vault.open(Kind::Key, slot, sealed).ok_or(StoreError::Damaged)?;
    Ok(StoredKey::read(&plain)?)
}

/// A transaction, which keeps the indices in step with the entries.
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

    pub(crate) fn client(&self, slot: &Slot) -> Result<Option<ClientRecord>, StoreError> {
        client(self.vault, &self.clients, slot)
    }

    pub(crate) fn key(&self, slot: &Slot) -> Result<Option<StoredKey>, StoreError> {
        let Some(entry) = self.keys.get(slot)? else { return Ok(None) };
        open_key(self.vault, slot, entry.value()).map(Some)
    }

    /// How many client registrations there are.
    pub(crate) fn clients(&self) -> Result<u64, StoreError> {
        Ok(self.clients.len()?)
    }

    /// How many keys there are, with those whose RelativeKeyID only is kept.
    pub(crate) fn keys(&self) -> Result<u64, StoreError> {
        Ok(self.keys.len()?)
    }

    /// The keys of a source, `most` of them at most.
    pub(crate) fn owned(&self, source: &Slot, most: usize) -> Result<Vec<Slot>, StoreError> {
        let range = (source, &[0; 32])..=(source, &[0xff; 32]);
        let slots = self.owned.range::<(&Slot, &Slot)>(range)?.take(most);
        slots.map(|entry| Ok(*entry?.0.value().1)).collect()
    }

    pub(crate) fn put_client(&mut self, record: &ClientRecord) -> Result<(), StoreError> {
        let slot = self.vault.slot(Kind::Client, &record.id);
        if let Some(old) = self.client(&slot)? {
            self.expiry.remove((old.expires, Kind::Client as u8, &slot))?;
        }
        let sealed = self.vault.seal(Kind::Client, &slot, &record.write()?)?;
        self.clients.insert(&slot, sealed.as_slice())?;
        self.expiry.insert((record.expires, Kind::Client as u8, &slot), ())?;
        Ok(())
    }

    pub(crate) fn put_key(&mut self, stored: &StoredKey) -> Result<(), StoreError> {
        let slot = self.vault.slot(Kind::Key, &stored.record.relative);
        if let Some(old) = self.key(&slot)? {
            self.expiry.remove((old.record.expires, Kind::Key as u8, &slot))?;
        }
        let sealed = self.vault.seal(Kind::Key, &slot, &stored.write()?)?;
        self.keys.insert(&slot, sealed.as_slice())?;
        self.expiry.insert((stored.record.expires, Kind::Key as u8, &slot), ())?;
        let source = self.vault.slot(Kind::Client, &stored.record.source);
        self.owned.insert((&source, &slot), ())?;
        Ok(())
    }

    /// Removes a key with all that leads to it.
    pub(crate) fn remove_key(&mut self, slot: &Slot, stored: &StoredKey) -> Result<(), StoreError> {
        let source = self.vault.slot(Kind::Client, &stored.record.source);
        self.keys.remove(slot)?;
        self.owned.remove((&source, slot))?;
        self.expiry.remove((stored.record.expires, Kind::Key as u8, slot))?;
        Ok(())
    }

    /// Takes a key off that is damaged, or not there. Its entry in the index of expiry, whose place
    /// nobody knows, leads nowhere then.
    pub(crate) fn take_off(&mut self, source: &Slot, slot: &Slot) -> Result<(), StoreError> {
        self.keys.remove(slot)?;
        self.owned.remove((source, slot))?;
        Ok(())
    }

    /// Removes a client registration. Its keys are removed before.
    pub(crate) fn remove_client(
        &mut self,
        slot: &Slot,
        record: &ClientRecord,
    ) -> Result<(), StoreError> {
        self.clients.remove(slot)?;
        self.expiry.remove((record.expires, Kind::Client as u8, slot))?;
        Ok(())
    }

    /// What has expired, the oldest first, `most` entries at most.
    pub(crate) fn expired(
        &self,
        now: Seconds,
        most: usize,
    ) -> Result<Vec<(Seconds, u8, Slot)>, StoreError> {
        let end = (now.saturating_add(1), 0, &[0; 32]);
        let entries = self.expiry.range::<(Seconds, u8, &Slot)>(..end)?.take(most);
        entries
            .map(|entry| {
                let key = entry?.0;
                let (at, kind, slot) = key.value();
                Ok((at, kind, *slot))
            })
            .collect()
    }

    /// Removes an entry of the index of expiry that leads nowhere.
    pub(crate) fn forget_expiry(&mut self, entry: &(Seconds, u8, Slot)) -> Result<(), StoreError> {
        self.expiry.remove((entry.0, entry.1, &entry.2))?;
        Ok(())
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
