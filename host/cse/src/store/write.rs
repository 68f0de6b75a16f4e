//! Changes of the store.

use std::collections::HashMap;
use std::ops::Bound;

use redb::{ReadableTable, Table, WriteTransaction};
use saegis_onem2m::resource::ResourceType;

use crate::budget::RequestBudget;
use crate::record::{Record, Seconds};
use crate::store::error::StoreError;
use crate::store::read::{Edge, Read, Tables};
use crate::store::tables::{
    ABOUT, AGING, ANNOUNCEMENTS, AWAITS, Bytes, CHILDREN, CREATED, ChildKey, DETACHED, DUE, EXPIRY,
    Expiry, FIRSTS, GENERATED, Id, LABELS, MONITORED, NAMES, Name, PENDING, RESOURCES, RETRIES,
    TimedKey, USAGE, WaitKey,
};

type TransactionTables<'t> = Tables<
    Table<'t, Id, Bytes>,
    Table<'t, Name, Id>,
    Table<'t, ChildKey, Id>,
    Table<'t, WaitKey, Id>,
    Table<'t, TimedKey, u64>,
    Table<'t, Name, ()>,
>;

/// Owner of the resources that belong to the CSE itself.
pub(super) const NO_OWNER: &str = "";

/// The stored data of an owner.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Number of resources.
    pub(crate) resources: u64,
    /// Their stored size, in bytes.
    pub(crate) bytes: u64,
}

/// A write transaction. Its changes are visible only to itself before the commit.
pub(crate) struct Writer<'t> {
    pub(super) tables: TransactionTables<'t>,
    pub(super) expiry: Table<'t, Expiry, ()>,
    pub(super) awaits: Table<'t, TimedKey, ()>,
    pub(super) detached: Table<'t, Id, ()>,
    pub(super) pending: Table<'t, WaitKey, Bytes>,
    pub(super) due: Table<'t, Expiry, ()>,
    pub(super) retries: Table<'t, WaitKey, Bytes>,
    pub(super) announcements: Table<'t, TimedKey, ()>,
    pub(super) generated: Table<'t, WaitKey, Id>,
    pub(super) monitored: Table<'t, Name, ()>,
    pub(super) usage: Table<'t, Id, (u64, u64)>,
    pub(super) about: Table<'t, Id, Id>,
    /// Usage of the owners whose data this transaction has changed.
    pub(super) used: HashMap<String, Usage>,
}

impl Writer<'_> {
    /// Returns the interface for lookups.
    pub(crate) fn read(&self) -> &dyn Read {
        &self.tables
    }

    /// Returns a property of the store itself.
    pub(crate) fn about(&self, what: &str) -> Result<Option<String>, StoreError> {
        Ok(self.about.get(what)?.map(|fact| fact.value().into()))
    }

    /// Sets a property of the store itself.
    pub(crate) fn set_about(&mut self, what: &str, fact: &str) -> Result<(), StoreError> {
        self.about.insert(what, fact)?;
        Ok(())
    }

    /// Returns the sequence of the next child of a type.
    pub(crate) fn next_sequence(&self, parent: &str, ty: ResourceType) -> Result<u64, StoreError> {
        let ty = ty.number();
        let last = self.tables.edge(parent, ((ty, 0), (ty, u64::MAX)), Edge::Latest)?;
        Ok(last.map_or(0, |c| c.sequence.saturating_add(1)))
    }

    /// Stores a resource: a new one, or a changed one with the same name, type and parent.
    pub(crate) fn put(&mut self, record: &Record) -> Result<(), StoreError> {
        let ri = record.ri.as_str();
        let old = self.tables.get(ri)?;
        self.store(record)?;
        self.set_monitored(record, record.is_monitored())?;
        self.count_monitor(old.as_ref(), Some(record))?;
        self.change_labels(old.as_ref(), record)?;
        self.change_announcement(old.as_ref(), record)?;
        let expired = old.as_ref().and_then(|o| o.expires);
        if expired != record.expires {
            if let Some(at) = expired {
                self.expiry.remove((at, ri))?;
            }
            if let Some(at) = record.expires {
                self.expiry.insert((at, ri), ())?;
            }
            if let Some(old) = &old {
                self.remove_age(old)?;
            }
            self.add_age(record)?;
        }
        let awaited = old.as_ref().map(|old| old.names.awaited()).unwrap_or_default();
        let awaits = record.names.awaited();
        for (stem, wait) in awaited.difference(&awaits) {
            self.leave_wait(stem, *wait, ri)?;
        }
        for (stem, wait) in awaits.difference(&awaited) {
            self.begin_wait(stem, *wait, ri)?;
        }
        if let (None, Some(parent)) = (old, &record.parent) {
            self.tables.names.insert((parent.as_str(), record.name.as_str()), ri)?;
            let key = (parent.as_str(), record.ty.number(), record.sequence);
            self.tables.children.insert(key, ri)?;
            self.add_creation(record)?;
            if let Some(at) = record.generated {
                self.generated.insert((parent.as_str(), at), ri)?;
            }
        }
        Ok(())
    }

    /// Stores a record, and counts it for its owner.
    fn store(&mut self, record: &Record) -> Result<(), StoreError> {
        let ri = record.ri.as_str();
        let bytes = serde_json::to_vec(record).map_err(|_| StoreError::Corrupt(ri.into()))?;
        let before = self.tables.resources.insert(ri, bytes.as_slice())?;
        let before = before.map(|stored| stored.value().len());
        self.count_for(record.owner.as_deref(), before, Some(bytes.len()))
    }

    /// Returns the usage of an owner, including the changes of this transaction.
    pub(crate) fn usage(&self, owner: &str) -> Result<Usage, StoreError> {
        if let Some(used) = self.used.get(owner) {
            return Ok(*used);
        }
        let stored = self.usage.get(owner)?.map(|stored| stored.value());
        let (resources, bytes) = stored.unwrap_or_default();
        Ok(Usage { resources, bytes })
    }

    /// Counts a record for its owner, by its size before and after.
    pub(super) fn count_for(
        &mut self,
        owner: Option<&str>,
        before: Option<usize>,
        after: Option<usize>,
    ) -> Result<(), StoreError> {
        let owner = owner.unwrap_or(NO_OWNER);
        let size = |bytes: Option<usize>| u64::try_from(bytes.unwrap_or(0)).unwrap_or(u64::MAX);
        let mut used = self.usage(owner)?;
        used.resources = used.resources.saturating_add(after.is_some().into());
        used.resources = used.resources.saturating_sub(before.is_some().into());
        used.bytes = used.bytes.saturating_add(size(after)).saturating_sub(size(before));
        self.used.insert(owner.into(), used);
        Ok(())
    }

    /// Writes the usage of the owners whose data this transaction has changed.
    pub(super) fn settle_usage(&mut self) -> Result<(), StoreError> {
        for (owner, used) in std::mem::take(&mut self.used) {
            if used.resources == 0 {
                self.usage.remove(owner.as_str())?;
            } else {
                self.usage.insert(owner.as_str(), (used.resources, used.bytes))?;
            }
        }
        Ok(())
    }

    /// Counts the stored resources for which `counts` returns `true` for their owners, for a store from a
    /// version without these counters.
    pub(crate) fn count_all(&mut self, counts: impl Fn(&Record) -> bool) -> Result<(), StoreError> {
        let mut all: HashMap<String, Usage> = HashMap::new();
        for entry in self.tables.resources.iter()? {
            let (key, stored) = entry?;
            let bytes = stored.value();
            let record: Record = serde_json::from_slice(bytes)
                .map_err(|_| StoreError::Corrupt(key.value().into()))?;
            if !counts(&record) {
                continue;
            }
            let used = all.entry(record.owner.unwrap_or_else(|| NO_OWNER.into())).or_default();
            used.resources += 1;
            used.bytes += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        }
        self.used = all;
        Ok(())
    }

    /// Detaches a resource of any size with everything below it, so that it is no longer found.
    /// [`remove_detached`](Self::remove_detached) removes it in parts. Its resource-ID must not be
    /// reused before.
    pub(crate) fn detach(&mut self, ri: &str) -> Result<(), StoreError> {
        let mut record = self.tables.get(ri)?.ok_or_else(|| StoreError::Corrupt(ri.into()))?;
        self.remove_from_indices(&record)?;
        // Resources below an expired one are not found.
        record.parent = None;
        record.expires = Some(0);
        record.announcement = None;
        self.store(&record)?;
        self.detached.insert(ri, ())?;
        Ok(())
    }

    /// Removes up to `limit` detached resources. Returns their number; a smaller number means that
    /// none is left.
    pub(crate) fn remove_detached(&mut self, limit: usize) -> Result<usize, StoreError> {
        let mut removed = 0;
        while removed < limit {
            let first = self.detached.first()?.map(|(ri, _)| ri.value().to_owned());
            let Some(ri) = first else { break };
            removed += self.remove_tree(&ri, limit - removed)?;
        }
        Ok(removed)
    }

    /// Removes up to `limit` resources of a subtree, leaves first. Returns their number; a smaller
    /// number means that none is left.
    pub(crate) fn remove_tree(&mut self, ri: &str, limit: usize) -> Result<usize, StoreError> {
        // Holds one resource-ID for each level, independently of the number of resources.
        let mut path = vec![ri.to_owned()];
        let mut removed = 0;
        while removed < limit {
            let Some(last) = path.last() else { break };
            match self.tables.next_child(last, None)? {
                Some(child) => path.push(child.ri),
                None => {
                    if let Some(leaf) = path.pop() {
                        self.remove(&leaf)?;
                        removed += 1;
                    }
                }
            }
        }
        Ok(removed)
    }

    fn remove(&mut self, ri: &str) -> Result<(), StoreError> {
        let Some(record) = self.tables.get(ri)? else {
            return Err(StoreError::Corrupt(ri.into()));
        };
        let stored = self.tables.resources.remove(ri)?.map(|stored| stored.value().len());
        self.count_for(record.owner.as_deref(), stored, None)?;
        self.remove_pending(&record)?;
        self.remove_retries(&record)?;
        self.count_monitor(Some(&record), None)?;
        if record.parent.is_none() {
            self.detached.remove(ri)?;
        }
        self.remove_from_indices(&record)
    }

    fn remove_from_indices(&mut self, record: &Record) -> Result<(), StoreError> {
        let ri = record.ri.as_str();
        if let Some(at) = record.expires {
            self.expiry.remove((at, ri))?;
        }
        self.remove_age(record)?;
        self.remove_labels(record)?;
        self.end_announcement(record)?;
        for (stem, wait) in record.names.awaited() {
            self.leave_wait(stem, wait, ri)?;
        }
        if let Some(parent) = &record.parent {
            self.tables.names.remove((parent.as_str(), record.name.as_str()))?;
            let key = (parent.as_str(), record.ty.number(), record.sequence);
            self.tables.children.remove(key)?;
            self.remove_creation(record)?;
            if let Some(at) = record.generated {
                self.generated.remove((parent.as_str(), at))?;
            }
        }
        Ok(())
    }

    /// Returns the resource following `after` in the order of resource-IDs, or the first one.
    pub(crate) fn next_by_id(&self, after: Option<&str>) -> Result<Option<Record>, StoreError> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let bounds: (Bound<&str>, Bound<&str>) = (from, Bound::Unbounded);
        let Some(entry) = self.tables.resources.range::<&str>(bounds)?.next() else {
            return Ok(None);
        };
        let (ri, _) = entry?;
        self.tables.get(ri.value())
    }

    /// Returns the resource-ID of an expired resource.
    pub(crate) fn first_expired(&self, now: Seconds) -> Result<Option<String>, StoreError> {
        match self.expiry.first()? {
            Some((key, _)) if key.value().0 <= now => Ok(Some(key.value().1.into())),
            _ => Ok(None),
        }
    }
}

impl<'t> Writer<'t> {
    /// Opens the tables in a transaction.
    pub(super) fn open(
        transaction: &'t WriteTransaction,
        budget: &RequestBudget,
    ) -> Result<Self, StoreError> {
        Ok(Self {
            tables: Tables {
                budget: budget.clone(),
                resources: transaction.open_table(RESOURCES)?,
                names: transaction.open_table(NAMES)?,
                children: transaction.open_table(CHILDREN)?,
                firsts: transaction.open_table(FIRSTS)?,
                aging: transaction.open_table(AGING)?,
                labels: transaction.open_table(LABELS)?,
                created: transaction.open_table(CREATED)?,
            },
            expiry: transaction.open_table(EXPIRY)?,
            awaits: transaction.open_table(AWAITS)?,
            detached: transaction.open_table(DETACHED)?,
            pending: transaction.open_table(PENDING)?,
            due: transaction.open_table(DUE)?,
            retries: transaction.open_table(RETRIES)?,
            announcements: transaction.open_table(ANNOUNCEMENTS)?,
            generated: transaction.open_table(GENERATED)?,
            monitored: transaction.open_table(MONITORED)?,
            usage: transaction.open_table(USAGE)?,
            about: transaction.open_table(ABOUT)?,
            used: HashMap::new(),
        })
    }
}
