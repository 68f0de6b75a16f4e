//! Removal of clients and keys, by request or after their expiry.

use crate::entry_cipher::EntryId;
use crate::record::{ClientRecord, Seconds, StoredKey};
use crate::store::{StoreError, Writer};

/// Removes a registration with its keys, including keys with a damaged entry.
pub(crate) fn remove_client(
    writer: &mut Writer<'_>,
    entry_id: &EntryId,
    record: &ClientRecord,
    now: Seconds,
) -> Result<(), StoreError> {
    for key in writer.owned(entry_id, usize::MAX)? {
        remove_key(writer, entry_id, &key, now)?;
    }
    writer.remove_client(entry_id, record)
}

/// Removes a key of a source.
///
/// The RelativeKeyID of a session's key stays reserved until the key expires, and counts as a key
/// until then. Otherwise the session could register the same key again for another target, while
/// the first target still holds it. A damaged entry is removed too.
pub(crate) fn remove_key(
    writer: &mut Writer<'_>,
    source: &EntryId,
    entry_id: &EntryId,
    now: Seconds,
) -> Result<(), StoreError> {
    match writer.key(entry_id) {
        Ok(Some(stored)) if stored.record.of_session && stored.record.expires > now => {
            writer.put_key(&StoredKey { record: stored.record, key: None })
        }
        Ok(Some(stored)) => writer.remove_key(entry_id, &stored),
        Ok(None) | Err(StoreError::Damaged) => writer.remove_damaged_key(source, entry_id),
        Err(other) => Err(other),
    }
}
