//! The index of the instances' expiration times, which makes the counters of a container exact
//! before expired instances are removed.

use redb::ReadableTable;

use crate::record::{Record, Seconds};
use crate::store::error::StoreError;
use crate::store::read::Read;
use crate::store::write::Writer;

/// Entry that records that the instances are in the index.
const INDEXED: &str = "aging";

impl Writer<'_> {
    /// Returns the resource-ID of an expired instance of a container.
    pub(crate) fn first_expired_in(
        &self,
        container: &str,
        now: Seconds,
    ) -> Result<Option<String>, StoreError> {
        let until = (container, now.saturating_add(1), "");
        let first = self.tables.aging.range((container, 0, "")..until)?.next().transpose()?;
        Ok(first.map(|(key, _)| key.value().2.into()))
    }

    pub(super) fn add_age(&mut self, record: &Record) -> Result<(), StoreError> {
        if let Some((container, at)) = ages(record) {
            let size = record.size.unwrap_or(0);
            self.tables.aging.insert((container, at, record.ri.as_str()), size)?;
        }
        Ok(())
    }

    pub(super) fn remove_age(&mut self, record: &Record) -> Result<(), StoreError> {
        if let Some((container, at)) = ages(record) {
            self.tables.aging.remove((container, at, record.ri.as_str()))?;
        }
        Ok(())
    }

    /// Indexes the instances of a store from a version without this index.
    pub(crate) fn index_ages(&mut self) -> Result<(), StoreError> {
        if self.about(INDEXED)?.is_some() {
            return Ok(());
        }
        let mut all = Vec::new();
        for entry in self.expiry.iter()? {
            all.push(entry?.0.value().1.to_owned());
        }
        for ri in all {
            let record = Read::get(&self.tables, &ri)?;
            self.add_age(&record.ok_or(StoreError::Corrupt(ri))?)?;
        }
        self.set_about(INDEXED, "1")
    }
}

/// Returns the container of an instance, and the instance's expiration time.
fn ages(record: &Record) -> Option<(&str, Seconds)> {
    match (&record.parent, record.expires) {
        (Some(parent), Some(at)) if record.ty.is_instance() => Some((parent, at)),
        _ => None,
    }
}
