//! The indices of the resources by their labels and by their creation times, so that a discovery of a few resources among many does
//! not have to visit all of them.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::record::Record;
use crate::store::error::StoreError;
use crate::store::write::Writer;

/// Attribute with the labels.
const LABELS: &str = "lbl";

/// Entry that records that the labels are in the index.
const INDEXED: &str = "labels";

/// Entry that records that the creation times are in the index.
const CREATIONS_INDEXED: &str = "created";

/// Returns the labels of a resource. A detached one has none.
pub(super) fn labels(record: &Record) -> BTreeSet<&str> {
    let list = record.attributes.get(LABELS).and_then(Value::as_array).into_iter().flatten();
    list.filter(|_| record.parent.is_some()).filter_map(Value::as_str).collect()
}

impl Writer<'_> {
    /// Updates the index for a stored resource, which is new or had other labels before.
    pub(super) fn change_labels(
        &mut self,
        before: Option<&Record>,
        after: &Record,
    ) -> Result<(), StoreError> {
        let (old, new) = (before.map(labels).unwrap_or_default(), labels(after));
        for label in old.difference(&new) {
            self.tables.labels.remove((*label, after.ri.as_str()))?;
        }
        for label in new.difference(&old) {
            self.tables.labels.insert((*label, after.ri.as_str()), ())?;
        }
        Ok(())
    }

    pub(super) fn remove_labels(&mut self, record: &Record) -> Result<(), StoreError> {
        for label in labels(record) {
            self.tables.labels.remove((label, record.ri.as_str()))?;
        }
        Ok(())
    }

    /// Indexes the creation time of a new resource.
    pub(super) fn add_creation(&mut self, record: &Record) -> Result<(), StoreError> {
        if let Some(owner) = &record.owner {
            let key = (owner.as_str(), record.created, record.ri.as_str());
            self.tables.created.insert(key, 0)?;
        }
        Ok(())
    }

    pub(super) fn remove_creation(&mut self, record: &Record) -> Result<(), StoreError> {
        if let Some(owner) = &record.owner {
            let key = (owner.as_str(), record.created, record.ri.as_str());
            self.tables.created.remove(key)?;
        }
        Ok(())
    }

    /// Indexes the creation times of a store from a version without this index.
    pub(crate) fn index_creations(&mut self) -> Result<(), StoreError> {
        if self.about(CREATIONS_INDEXED)?.is_some() {
            return Ok(());
        }
        let mut after = None;
        while let Some(record) = self.next_by_id(after.as_deref())? {
            if record.parent.is_some() {
                self.add_creation(&record)?;
            }
            after = Some(record.ri);
        }
        self.set_about(CREATIONS_INDEXED, "1")
    }

    /// Indexes the labels of a store from a version without this index.
    pub(crate) fn index_labels(&mut self) -> Result<(), StoreError> {
        if self.about(INDEXED)?.is_some() {
            return Ok(());
        }
        let mut after = None;
        while let Some(record) = self.next_by_id(after.as_deref())? {
            self.change_labels(None, &record)?;
            after = Some(record.ri);
        }
        self.set_about(INDEXED, "1")
    }
}
