//! The store's key is changed.

use std::path::Path;

use redb::{Durability, ReadableDatabase, ReadableTable, TableDefinition};

use crate::record::ClientRecord;
use crate::store::{
    CLIENTS, EXPIRY, Id, KEYS, OWNED, OpenError, Sealed, StoreError, Writer, builder, is_ours,
    open_key, write_proof,
};
use crate::store_key::StoreKey;
use crate::vault::{Kind, Vault};

const OLD_CLIENTS: TableDefinition<'_, Id, Sealed> = TableDefinition::new("old clients");
const OLD_KEYS: TableDefinition<'_, Id, Sealed> = TableDefinition::new("old keys");

/// Writes all entries of a store anew, under another key, in one transaction: the store is under the
/// old key until it is under the new one. No MAF may have it open meanwhile.
///
/// It does not reach copies of the file, nor what a file system keeps of blocks that are free.
///
/// # Errors
/// When there is no such file, it was written under another key than the old one, an entry is
/// damaged, or reading or writing failed. Then all is as it was.
pub fn reencrypt(path: &Path, old: &StoreKey, new: &StoreKey) -> Result<(), OpenError> {
    let (old, new) = (Vault::new(old), Vault::new(new));
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
            let (slot, sealed) = entry?;
            let plain = old.open(Kind::Client, slot.value(), sealed.value());
            let record = ClientRecord::read(&plain.ok_or(StoreError::Damaged)?);
            writer.put_client(&record.map_err(StoreError::from)?)?;
        }
        for entry in transaction.open_table(OLD_KEYS)?.iter()? {
            let (slot, sealed) = entry?;
            writer.put_key(&open_key(&old, slot.value(), sealed.value())?)?;
        }
    }
    transaction.delete_table(OLD_CLIENTS)?;
    transaction.delete_table(OLD_KEYS)?;
    transaction.commit()?;
    // The pages of the old entries are given back, as far as that goes: all is done without it.
    let _ = database.compact();
    Ok(())
}
