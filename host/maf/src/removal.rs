//! Removal of clients and keys, by request or after their expiry.

use crate::record::{ClientRecord, Seconds, StoredKey};
use crate::store::{StoreError, Writer};
use crate::vault::Slot;

/// Removes a registration with its keys, including keys with a damaged entry.
pub(crate) fn remove_client(
    writer: &mut Writer<'_>,
    slot: &Slot,
    record: &ClientRecord,
    now: Seconds,
) -> Result<(), StoreError> {
    for key in writer.owned(slot, usize::MAX)? {
        remove_key(writer, slot, &key, now)?;
    }
    writer.remove_client(slot, record)
}

/// Removes a key of a source.
///
/// The RelativeKeyID of a session's key stays reserved until the key expires, and counts as a key
/// until then. Otherwise the session could register the same key again for another target, while
/// the first target still holds it. A damaged entry is removed too.
pub(crate) fn remove_key(
    writer: &mut Writer<'_>,
    source: &Slot,
    slot: &Slot,
    now: Seconds,
) -> Result<(), StoreError> {
    match writer.key(slot) {
        Ok(Some(stored)) if stored.record.of_session && stored.record.expires > now => {
            writer.put_key(&StoredKey { record: stored.record, key: None })
        }
        Ok(Some(stored)) => writer.remove_key(slot, &stored),
        Ok(None) | Err(StoreError::Damaged) => writer.remove_damaged_key(source, slot),
        Err(other) => Err(other),
    }
}
