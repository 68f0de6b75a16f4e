//! What has expired makes room.

use crate::context::SweepOutcome;
use crate::record::Seconds;
use crate::removal;
use crate::store::{StoreError, Writer};
use crate::vault::{Kind, Slot};

/// Most entries of the index that one transaction takes up, and most keys that it removes with
/// their clients, but for those of the last client.
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

/// Removes what an entry of the index leads to, if that says the same. The index is not sealed, so
/// it decides nothing; and an entry that is damaged holds nothing up: it stays, and nobody can use
/// it.
fn remove(
    writer: &mut Writer<'_>,
    entry: &(Seconds, u8, Slot),
    now: Seconds,
) -> Result<usize, StoreError> {
    let (_, kind, slot) = entry;
    let removed = if *kind == Kind::Client as u8 {
        match writer.client(slot) {
            Ok(Some(record)) if record.expires <= now => {
                let of_client = writer.owned(slot, usize::MAX)?.len();
                removal::remove_client(writer, slot, &record, now)?;
                Some(1 + of_client)
            }
            Ok(None) => Some(0),
            Ok(Some(_)) | Err(StoreError::Damaged) => None,
            Err(other) => return Err(other),
        }
    } else if *kind == Kind::Key as u8 {
        match writer.key(slot) {
            Ok(Some(stored)) if stored.record.expires <= now => {
                writer.remove_key(slot, &stored)?;
                Some(1)
            }
            Ok(None) => Some(0),
            Ok(Some(_)) | Err(StoreError::Damaged) => None,
            Err(other) => return Err(other),
        }
    } else {
        None
    };
    // Where it was removed, the index may have had it under another time all the same.
    writer.forget_expiry(entry)?;
    Ok(removed.unwrap_or_else(|| {
        tracing::error!(
            event = "maf.entry-damaged",
            "the MAF's store has an entry that is damaged"
        );
        1
    }))
}
