//! Clients and keys are removed, by a request or because they have expired.

use crate::record::{ClientRecord, Seconds, StoredKey};
use crate::store::{StoreError, Writer};
use crate::vault::Slot;

/// Removes a registration with its keys. One whose entry is damaged is taken off all the same.
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

/// Removes a key of a source. The RelativeKeyID of a session's key stays taken until the key's time
/// is over: the session could give the same key again, for another target, while the first one still
/// holds it. It counts as a key until then. Whether an entry is damaged makes no difference here.
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
        Ok(None) | Err(StoreError::Damaged) => writer.take_off(source, slot),
        Err(other) => Err(other),
    }
}
