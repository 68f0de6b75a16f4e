//! Replacement of the store's key.

use std::path::Path;

use redb::{Durability, ReadableDatabase, ReadableTable, TableDefinition};

use crate::kind::{Kind, vault_of};
use crate::record::ClientRecord;
use crate::store::{
    CLIENTS, EXPIRY, Id, KEYS, OWNED, OpenError, Sealed, StoreError, Writer, builder, is_ours,
    open_key, write_proof,
};
use saegis_vault::StoreKey;

const OLD_CLIENTS: TableDefinition<'_, Id, Sealed> = TableDefinition::new("old clients");
const OLD_KEYS: TableDefinition<'_, Id, Sealed> = TableDefinition::new("old keys");

/// Re-encrypts all entries of a store under another key in one transaction, which takes effect
/// completely or not at all. No MAF may have the file open meanwhile.
///
/// Copies of the file, and free blocks of the file system, are not changed.
///
/// # Errors
/// Returns an error if the file does not exist or was written under another key, an entry is
/// damaged, or reading or writing failed. The store is then unchanged.
pub fn reencrypt(path: &Path, old: &StoreKey, new: &StoreKey) -> Result<(), OpenError> {
    let (old, new) = (vault_of(old), vault_of(new));
    let mut database = builder().open(path)?;
    if !is_ours(&database.begin_read()?, &old)? {
        return Err(OpenError::Foreign);
    }
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    transaction.rename_table(CLIENTS, OLD_CLIENTS)?;
    transaction.rename_table(KEYS, OLD_KEYS)?;
    transaction.delete_table(OWNED)?;
    transaction.delete_table(EXPIRY)?;
    write_proof(&transaction, &new)?;
    {
        let mut writer = Writer::of(&transaction, &new)?;
        for entry in transaction.open_table(OLD_CLIENTS)?.iter()? {
            let (entry_id, sealed) = entry?;
            let plain = old.open(Kind::Client, entry_id.value(), sealed.value());
            let record = ClientRecord::read(&plain.ok_or(StoreError::Damaged)?);
            writer.put_client(&record.map_err(StoreError::from)?)?;
        }
        for entry in transaction.open_table(OLD_KEYS)?.iter()? {
            let (entry_id, sealed) = entry?;
            writer.put_key(&open_key(&old, entry_id.value(), sealed.value())?)?;
        }
    }
    transaction.delete_table(OLD_CLIENTS)?;
    transaction.delete_table(OLD_KEYS)?;
    transaction.commit()?;
    // Returns the pages of the old entries as far as possible. A failure does not matter.
    let _ = database.compact();
    Ok(())
}
