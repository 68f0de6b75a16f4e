//! The waits of resources for the first registrant of an AE-ID-Stem.
//!
//! A resource that names an unregistered AE-ID stores the number of a wait. A registration ends the
//! open wait of its stem with one entry, independently of the number of waiting resources. The next
//! resource that names the stem while it is unregistered starts another wait. The registrant is
//! looked up when it is needed, and removed with the last resource of the wait.

use redb::{ReadableTable, TableDefinition, TableHandle};
use saegis_store::Access;

use crate::store::error::StoreError;
use crate::store::tables::{AWAITS, Name};
use crate::store::write::Writer;

/// The waits of a version that rewrote the resources: AE-ID-Stem and waiting resource.
const AWAITED: TableDefinition<'_, Name, ()> = TableDefinition::new("awaited");

impl Writer<'_> {
    /// Returns the number of the wait for the next registrant of an unregistered stem.
    pub(crate) fn open_wait(&self, stem: &str) -> Result<u64, StoreError> {
        Ok(match self.last_wait(stem)? {
            Some((wait, is_open)) => wait + u64::from(!is_open),
            None => 0,
        })
    }

    /// Ends the open wait for a stem, if any, with this registrant.
    pub(crate) fn settle(&mut self, stem: &str, registrant: &str) -> Result<(), StoreError> {
        if let Some((wait, true)) = self.last_wait(stem)? {
            self.tables.firsts.insert((stem, wait), registrant)?;
        }
        Ok(())
    }

    /// Returns the last wait for a stem, and whether it is open. Earlier ones are not.
    fn last_wait(&self, stem: &str) -> Result<Option<(u64, bool)>, StoreError> {
        let last =
            self.awaits.range((stem, 0, "")..(stem, u64::MAX, ""))?.next_back().transpose()?;
        let Some((key, ())) = last.map(|(key, value)| (key, value.value())) else {
            return Ok(None);
        };
        let wait = key.value().1;
        Ok(Some((wait, self.tables.firsts.get((stem, wait))?.is_none())))
    }

    pub(super) fn begin_wait(&mut self, stem: &str, wait: u64, ri: &str) -> Result<(), StoreError> {
        self.awaits.insert((stem, wait, ri), ())?;
        Ok(())
    }

    pub(super) fn leave_wait(&mut self, stem: &str, wait: u64, ri: &str) -> Result<(), StoreError> {
        self.awaits.remove((stem, wait, ri))?;
        let mut others = self.awaits.range((stem, wait, "")..(stem, wait.saturating_add(1), ""))?;
        if others.next().is_none() {
            drop(others);
            self.tables.firsts.remove((stem, wait))?;
        }
        Ok(())
    }
}

/// Converts the waits of a version that rewrote the resources, if any. All of them are open.
pub(super) fn convert(access: &Access<'_>) -> Result<(), StoreError> {
    let is_there = |table: redb::UntypedTableHandle| table.name() == AWAITED.name();
    if !access.begin_read()?.list_tables()?.any(is_there) {
        return Ok(());
    }
    let transaction = access.begin_write()?;
    {
        let old = transaction.open_table(AWAITED)?;
        let mut new = transaction.open_table(AWAITS)?;
        for entry in old.iter()? {
            let (key, _) = entry?;
            let (stem, ri) = key.value();
            new.insert((stem, 0, ri), ())?;
        }
    }
    transaction.delete_table(AWAITED)?;
    Ok(access.commit(transaction)?)
}

/// Converts the waits to the format of a version that rewrote the resources.
#[cfg(test)]
pub(super) fn revert(access: &Access<'_>) {
    let transaction = access.begin_write().unwrap();
    {
        let new = transaction.open_table(AWAITS).unwrap();
        let mut old = transaction.open_table(AWAITED).unwrap();
        for entry in new.iter().unwrap() {
            let (key, _) = entry.unwrap();
            let (stem, wait, ri) = key.value();
            assert_eq!(wait, 0);
            old.insert((stem, ri), ()).unwrap();
        }
    }
    transaction.delete_table(AWAITS).unwrap();
    transaction.delete_table(crate::store::tables::FIRSTS).unwrap();
    transaction.commit().unwrap();
}
