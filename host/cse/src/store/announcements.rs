//! The announcements that must be synchronized with the registrar CSE, by owner and time: those of
//! resources, by their resource-IDs, and those to delete, by their addresses.
//!
//! The owners take turns, so that many announcements of one do not delay those of the others.

use crate::record::{Record, Seconds};
use crate::store::Store;
use crate::store::error::StoreError;
use crate::store::tables::ANNOUNCEMENTS;
use crate::store::write::{NO_OWNER, Writer};

/// An entry that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DueAnnouncement {
    /// Owner of the resource, empty if it belongs to the CSE itself.
    pub(crate) owner: String,
    /// Time.
    pub(crate) due: Seconds,
    /// Resource-ID, or address of an announcement to delete.
    pub(crate) what: String,
}

impl Writer<'_> {
    /// Updates the index for a resource that is stored.
    pub(super) fn change_announcement(
        &mut self,
        old: Option<&Record>,
        new: &Record,
    ) -> Result<(), StoreError> {
        let due = |of: &Record| of.announcement.as_ref().and_then(|state| state.due);
        let (before, after) = (old.and_then(due), due(new));
        if before == after {
            return Ok(());
        }
        self.move_announcement(new.owner.as_deref(), &new.ri, before, after)
    }

    /// Ends the synchronization of a resource that is removed, and has its announcement deleted.
    pub(super) fn end_announcement(&mut self, record: &Record) -> Result<(), StoreError> {
        let Some(state) = &record.announcement else { return Ok(()) };
        let owner = record.owner.as_deref();
        self.move_announcement(owner, &record.ri, state.due, None)?;
        match &state.address {
            Some(address) => self.move_announcement(owner, address, None, Some(0)),
            None => Ok(()),
        }
    }

    /// Changes the time of an entry: of a resource by its resource-ID, or of an announcement to delete
    /// by its address.
    pub(crate) fn move_announcement(
        &mut self,
        owner: Option<&str>,
        what: &str,
        before: Option<Seconds>,
        due: Option<Seconds>,
    ) -> Result<(), StoreError> {
        let owner = owner.unwrap_or(NO_OWNER);
        if let Some(at) = before {
            self.announcements.remove((owner, at, what))?;
        }
        if let Some(at) = due {
            self.announcements.insert((owner, at, what), ())?;
        }
        Ok(())
    }
}

impl Store {
    /// Returns the first entry that is due, of the owner whose turn it is after `after`.
    pub(crate) fn due_announcement(
        &self,
        after: &str,
        now: Seconds,
    ) -> Result<Option<DueAnnouncement>, StoreError> {
        let access = self.access()?;
        let table = access.begin_read()?.open_table(ANNOUNCEMENTS)?;
        let (mut next, mut is_second_round) = (following(after), false);
        loop {
            match table.range((next.as_str(), 0, "")..)?.next().transpose()? {
                Some((key, _)) => {
                    let (owner, due, what) = key.value();
                    if is_second_round && owner > after {
                        return Ok(None);
                    }
                    if due <= now {
                        let (owner, what) = (owner.to_owned(), what.to_owned());
                        return Ok(Some(DueAnnouncement { owner, due, what }));
                    }
                    next = following(owner);
                }
                None if is_second_round => return Ok(None),
                None => (next, is_second_round) = (NO_OWNER.to_owned(), true),
            }
        }
    }
}

/// Returns the first text that is greater than another one.
fn following(text: &str) -> String {
    format!("{text}\0")
}
