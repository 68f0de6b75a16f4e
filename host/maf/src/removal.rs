//! Removal of clients and keys, by request or after their expiry.

use crate::record::{ClientRecord, Seconds, StoredKey};
use crate::store::{StoreError, Writer};
use saegis_vault::EntryId;

/// Removes all registrations of a client that have expired, with their keys. Returns what is left.
pub(crate) fn remove_expired(
    writer: &mut Writer<'_>,
    entry_id: &EntryId,
    mut record: ClientRecord,
    now: Seconds,
) -> Result<Option<ClientRecord>, StoreError> {
    while let Some(expired) = record.registrations.iter().find(|r| r.expires <= now) {
        let admin = expired.admin.clone();
        match remove_registration(writer, entry_id, record, &admin, now)? {
            Some(left) => record = left,
            None => return Ok(None),
        }
    }
    Ok(Some(record))
}

/// Removes the registration for an administrating stakeholder with its keys. Returns the client, if
/// it has other registrations. With the last one, keys with a damaged entry are removed too.
pub(crate) fn remove_registration(
    writer: &mut Writer<'_>,
    entry_id: &EntryId,
    mut record: ClientRecord,
    admin: &str,
    now: Seconds,
) -> Result<Option<ClientRecord>, StoreError> {
    let before = record.clone();
    record.registrations.retain(|r| !r.is_for(admin));
    let is_last = record.registrations.is_empty();
    for key in writer.owned(entry_id, usize::MAX)? {
        let goes_along = is_last
            || match writer.key(&key) {
                Ok(stored) => stored.is_some_and(|s| s.record.admin.eq_ignore_ascii_case(admin)),
                Err(StoreError::Damaged) => false,
                Err(other) => return Err(other),
            };
        if goes_along {
            remove_key(writer, entry_id, &key, now)?;
        }
    }
    if is_last {
        writer.remove_client(entry_id, &before)?;
        return Ok(None);
    }
    writer.put_client(&record)?;
    Ok(Some(record))
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
