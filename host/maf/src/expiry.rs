//! The removal of expired entries.

use crate::context::SweepOutcome;
use crate::kind::Kind;
use crate::record::Seconds;
use crate::removal;
use crate::store::{StoreError, Writer};
use saegis_vault::EntryId;

/// Maximum number of index entries that one transaction processes, and of keys that it removes with
/// their clients, except for those of the last client.
const BATCH: usize = 256;

pub(crate) fn sweep(writer: &mut Writer<'_>, now: Seconds) -> Result<SweepOutcome, StoreError> {
    let entries = writer.expired(now, BATCH)?;
    let mut swept = SweepOutcome { removed: 0, more: entries.len() == BATCH };
    for entry in entries {
        if swept.removed >= BATCH {
            swept.more = true;
            break;
        }
        swept.removed += remove(writer, &entry, now)?;
    }
    Ok(swept)
}

/// Removes the entry to which an index entry points, if it has really expired. The index is not
/// encrypted, so it is not trusted. A damaged entry does not stop the sweep: it stays, and cannot
/// be used.
fn remove(
    writer: &mut Writer<'_>,
    entry: &(Seconds, u8, EntryId),
    now: Seconds,
) -> Result<usize, StoreError> {
    let (_, kind, entry_id) = entry;
    let removed = if *kind == Kind::Client as u8 {
        match writer.client(entry_id) {
            Ok(Some(record)) if record.first_end() <= now => {
                let before = record.registrations.len() + writer.owned(entry_id, usize::MAX)?.len();
                let left = match removal::remove_expired(writer, entry_id, record, now)? {
                    Some(left) => {
                        left.registrations.len() + writer.owned(entry_id, usize::MAX)?.len()
                    }
                    None => 0,
                };
                Some(before - left)
            }
            Ok(None) => Some(0),
            Ok(Some(_)) | Err(StoreError::Damaged) => None,
            Err(other) => return Err(other),
        }
    } else if *kind == Kind::Key as u8 {
        match writer.key(entry_id) {
            Ok(Some(stored)) if stored.record.expires <= now => {
                writer.remove_key(entry_id, &stored)?;
                Some(1)
            }
            Ok(None) => Some(0),
            Ok(Some(_)) | Err(StoreError::Damaged) => None,
            Err(other) => return Err(other),
        }
    } else {
        None
    };
    // The index may have listed a removed entry under another time too.
    writer.remove_from_expiry(entry)?;
    Ok(removed.unwrap_or_else(|| {
        tracing::error!(event = "maf.entry-damaged", "MAF store has a damaged entry");
        1
    }))
}
