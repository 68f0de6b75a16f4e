//! The durable store: a redb file with the resources and the indices that lead to them.
//!
//! | table | key | value |
//! |---|---|---|
//! | `resources` | resource-ID | the [`Record`] in JSON |
//! | `names` | parent's resource-ID, name | resource-ID |
//! | `children` | parent's resource-ID, type, sequence | resource-ID |
//! | `expiry` | expiration time, resource-ID | nothing |
//! | `aging` | container's resource-ID, expiration time, resource-ID of an instance | its size |
//! | `awaits` | AE-ID-Stem, number of a wait for its registrant, resource-ID of a resource that asks | nothing |
//! | `firsts` | AE-ID-Stem, number of a wait that is over | the registrant |
//! | `detached` | resource-ID | nothing: the top of a subtree that was deleted and is not removed yet |
//! | `usage` | owner | how many resources are its, and their bytes |
//! | `about` | `schema`, `cse` | the version of this layout, the CSE-ID |
//!
//! A request sees one snapshot, or one transaction that is committed whole, to disk, or not at
//! all. Every look-up is a walk down one tree: the latest instance of a container is found as fast
//! as the oldest.

mod aging;
mod awaits;
pub(crate) mod polling_queues;
mod queue;

use std::collections::HashMap;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use redb::{
    Database, Durability, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable, Table,
    TableDefinition,
};
use saegis_onem2m::resource::ResourceType;

use self::queue::Queue;
use crate::budget::{RequestBudget, Stop};
use crate::record::{Record, Seconds, Stock};

const RESOURCES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("resources");
const NAMES: TableDefinition<'_, (&str, &str), &str> = TableDefinition::new("names");
const CHILDREN: TableDefinition<'_, (&str, u16, u64), &str> = TableDefinition::new("children");
const EXPIRY: TableDefinition<'_, (u64, &str), ()> = TableDefinition::new("expiry");
const AGING: TableDefinition<'_, (&str, u64, &str), u64> = TableDefinition::new("aging");
const AWAITS: TableDefinition<'_, (&str, u64, &str), ()> = TableDefinition::new("awaits");
const FIRSTS: TableDefinition<'_, (&str, u64), &str> = TableDefinition::new("firsts");
const DETACHED: TableDefinition<'_, &str, ()> = TableDefinition::new("detached");
const USAGE: TableDefinition<'_, &str, (u64, u64)> = TableDefinition::new("usage");
const ABOUT: TableDefinition<'_, &str, &str> = TableDefinition::new("about");

/// The keys and the values of the tables.
type Id = &'static str;
type Bytes = &'static [u8];
type Name = (&'static str, &'static str);
type Slot = (&'static str, u16, u64);
type Expiry = (u64, &'static str);
type Wait = (&'static str, u64);
type Timed = (&'static str, u64, &'static str);

/// Memory that redb may use for pages, in bytes. A transaction larger than this goes to disk.
const CACHE: usize = 32 << 20;

/// The store failed. None of the variants holds content of a resource.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The file could not be opened.
    #[error(transparent)]
    Database(#[from] redb::DatabaseError),
    /// A transaction could not be begun.
    #[error(transparent)]
    Transaction(#[from] redb::TransactionError),
    /// A table could not be opened.
    #[error(transparent)]
    Table(#[from] redb::TableError),
    /// Reading or writing failed.
    #[error(transparent)]
    Storage(#[from] redb::StorageError),
    /// A transaction could not be committed: nothing of it holds.
    #[error(transparent)]
    Commit(#[from] redb::CommitError),
    /// A durable commit can't be had.
    #[error(transparent)]
    Durability(#[from] redb::SetDurabilityError),
    /// The file could not be opened anew after a failure.
    #[error("the store is closed after a failure")]
    Closed,
    /// Writing has just failed, and is not tried again for a while.
    #[error("the store could not be written a moment ago, and is not tried again yet")]
    Paused,
    /// What is stored under this resource-ID can't be read, or leads nowhere.
    #[error("the resource {0} in the store is damaged")]
    Corrupt(String),
    /// The store is sound; the request has to stop.
    #[error(transparent)]
    Stopped(#[from] Stop),
}

/// Where an instance is looked for in its container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Edge {
    /// The first created.
    Oldest,
    /// The last created.
    Latest,
}

/// An entry in the index of children.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Child {
    /// The number of its type.
    pub(crate) ty: u16,
    /// Its place among those of its type.
    pub(crate) sequence: u64,
    /// Its resource-ID.
    pub(crate) ri: String,
}

/// What can be looked up, in a snapshot as in a transaction.
pub(crate) trait Read {
    /// The resource with that resource-ID.
    fn get(&self, ri: &str) -> Result<Option<Record>, StoreError>;
    /// The resource-ID of the child with that name.
    fn named(&self, parent: &str, name: &str) -> Result<Option<String>, StoreError>;
    /// The first child, or the one behind `after`, by type and then by order of creation.
    fn next_child(&self, parent: &str, after: Option<&Child>) -> Result<Option<Child>, StoreError>;
    /// The first child of that type, or the one behind the sequence `after`.
    fn next_of_type(
        &self,
        parent: &str,
        ty: ResourceType,
        after: Option<u64>,
    ) -> Result<Option<Child>, StoreError>;
    /// The instance at the edge of a container, or the next further in from `beyond`.
    fn instance(
        &self,
        container: &str,
        edge: Edge,
        beyond: Option<u64>,
    ) -> Result<Option<Child>, StoreError>;
    /// What instances of a container hold that have expired and are not removed yet.
    fn expired_in(&self, container: &str, now: Seconds) -> Result<Stock, StoreError>;
    /// The registrant of an AE-ID-Stem that ended that wait for it, if it is over.
    fn first(&self, stem: &str, wait: u64) -> Result<Option<String>, StoreError>;
    /// How many resources there are.
    fn count(&self) -> Result<u64, StoreError>;
    /// The budget that look-ups are taken from.
    fn budget(&self) -> &RequestBudget;
}

/// What is stored for an owner.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// How many resources.
    pub(crate) resources: u64,
    /// Their bytes as they are stored.
    pub(crate) bytes: u64,
}

/// The tables that are read, in either kind of transaction.
struct Tables<R, N, C, F, A> {
    budget: RequestBudget,
    resources: R,
    names: N,
    children: C,
    firsts: F,
    aging: A,
}

impl<R, N, C, F, A> Tables<R, N, C, F, A>
where
    C: ReadableTable<Slot, Id>,
{
    fn edge(
        &self,
        parent: &str,
        (first, last): ((u16, u64), (u16, u64)),
        edge: Edge,
    ) -> Result<Option<Child>, StoreError> {
        if first > last {
            return Ok(None);
        }
        self.budget.check()?;
        let range = (parent, first.0, first.1)..=(parent, last.0, last.1);
        let mut found = self.children.range(range)?;
        let entry = match edge {
            Edge::Oldest => found.next(),
            Edge::Latest => found.next_back(),
        };
        let Some((key, ri)) = entry.transpose()? else { return Ok(None) };
        let (_, ty, sequence) = key.value();
        Ok(Some(Child { ty, sequence, ri: ri.value().into() }))
    }
}

impl<R, N, C, F, A> Read for Tables<R, N, C, F, A>
where
    R: ReadableTable<Id, Bytes>,
    N: ReadableTable<Name, Id>,
    C: ReadableTable<Slot, Id>,
    F: ReadableTable<Wait, Id>,
    A: ReadableTable<Timed, u64>,
{
    fn get(&self, ri: &str) -> Result<Option<Record>, StoreError> {
        let Some(stored) = self.resources.get(ri)? else {
            self.budget.step(0)?;
            return Ok(None);
        };
        self.budget.step(stored.value().len())?;
        match serde_json::from_slice(stored.value()) {
            Ok(record) => Ok(Some(record)),
            // The error's text may quote content.
            Err(_) => Err(StoreError::Corrupt(ri.into())),
        }
    }

    fn named(&self, parent: &str, name: &str) -> Result<Option<String>, StoreError> {
        self.budget.step(0)?;
        Ok(self.names.get((parent, name))?.map(|ri| ri.value().into()))
    }

    fn next_child(&self, parent: &str, after: Option<&Child>) -> Result<Option<Child>, StoreError> {
        let first = after.map_or((0, 0), |c| (c.ty, c.sequence.saturating_add(1)));
        self.edge(parent, (first, (u16::MAX, u64::MAX)), Edge::Oldest)
    }

    fn next_of_type(
        &self,
        parent: &str,
        ty: ResourceType,
        after: Option<u64>,
    ) -> Result<Option<Child>, StoreError> {
        let (ty, first) = (ty.number(), after.map_or(0, |at| at.saturating_add(1)));
        self.edge(parent, ((ty, first), (ty, u64::MAX)), Edge::Oldest)
    }

    fn instance(
        &self,
        container: &str,
        edge: Edge,
        beyond: Option<u64>,
    ) -> Result<Option<Child>, StoreError> {
        let ty = ResourceType::ContentInstance.number();
        let (mut first, mut last) = (0, u64::MAX);
        match (edge, beyond) {
            (_, None) => {}
            (Edge::Oldest, Some(at)) => first = at.saturating_add(1),
            (Edge::Latest, Some(0)) => return Ok(None),
            (Edge::Latest, Some(at)) => last = at - 1,
        }
        self.edge(container, ((ty, first), (ty, last)), edge)
    }

    fn expired_in(&self, container: &str, now: Seconds) -> Result<Stock, StoreError> {
        aging::expired_in(&self.aging, &self.budget, container, now)
    }

    fn first(&self, stem: &str, wait: u64) -> Result<Option<String>, StoreError> {
        self.budget.step(0)?;
        Ok(self.firsts.get((stem, wait))?.map(|registrant| registrant.value().into()))
    }

    fn count(&self) -> Result<u64, StoreError> {
        Ok(self.resources.len()?)
    }

    fn budget(&self) -> &RequestBudget {
        &self.budget
    }
}

/// The tables of a snapshot, and those of a transaction.
type Seen = Tables<
    ReadOnlyTable<Id, Bytes>,
    ReadOnlyTable<Name, Id>,
    ReadOnlyTable<Slot, Id>,
    ReadOnlyTable<Wait, Id>,
    ReadOnlyTable<Timed, u64>,
>;
type Written<'t> = Tables<
    Table<'t, Id, Bytes>,
    Table<'t, Name, Id>,
    Table<'t, Slot, Id>,
    Table<'t, Wait, Id>,
    Table<'t, Timed, u64>,
>;

/// A consistent view of the store.
pub(crate) struct Snapshot<'s> {
    tables: Seen,
    // Keeps the pages that the tables read from being used again.
    _transaction: ReadTransaction,
    _database: Open<'s>,
}

impl Snapshot<'_> {
    /// What can be looked up.
    pub(crate) fn read(&self) -> &dyn Read {
        &self.tables
    }
}

/// A transaction under way. It sees its own changes; nobody else does before the commit.
pub(crate) struct Writer<'t> {
    tables: Written<'t>,
    expiry: Table<'t, Expiry, ()>,
    awaits: Table<'t, Timed, ()>,
    detached: Table<'t, Id, ()>,
    usage: Table<'t, Id, (u64, u64)>,
    about: Table<'t, Id, Id>,
    /// The usage of the owners that this transaction has changed something of.
    used: HashMap<String, Usage>,
}

impl Writer<'_> {
    /// What can be looked up.
    pub(crate) fn read(&self) -> &dyn Read {
        &self.tables
    }

    /// A fact about the store itself.
    pub(crate) fn about(&self, what: &str) -> Result<Option<String>, StoreError> {
        Ok(self.about.get(what)?.map(|fact| fact.value().into()))
    }

    /// Notes a fact about the store itself.
    pub(crate) fn note(&mut self, what: &str, fact: &str) -> Result<(), StoreError> {
        self.about.insert(what, fact)?;
        Ok(())
    }

    /// The sequence of the next child of that type.
    pub(crate) fn next_sequence(&self, parent: &str, ty: ResourceType) -> Result<u64, StoreError> {
        let ty = ty.number();
        let last = self.tables.edge(parent, ((ty, 0), (ty, u64::MAX)), Edge::Latest)?;
        Ok(last.map_or(0, |c| c.sequence.saturating_add(1)))
    }

    /// Stores a resource: a new one, or new attributes of one whose name, type and parent stay.
    pub(crate) fn put(&mut self, record: &Record) -> Result<(), StoreError> {
        let ri = record.ri.as_str();
        let old = self.tables.get(ri)?;
        self.store(record)?;
        let expired = old.as_ref().and_then(|o| o.expires);
        if expired != record.expires {
            if let Some(at) = expired {
                self.expiry.remove((at, ri))?;
            }
            if let Some(at) = record.expires {
                self.expiry.insert((at, ri), ())?;
            }
            if let Some(old) = &old {
                self.age_no_more(old)?;
            }
            self.age(record)?;
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
            let place = (parent.as_str(), record.ty.number(), record.sequence);
            self.tables.children.insert(place, ri)?;
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

    /// What is stored for an owner, with what this transaction changes.
    pub(crate) fn usage(&self, owner: &str) -> Result<Usage, StoreError> {
        if let Some(used) = self.used.get(owner) {
            return Ok(*used);
        }
        let stored = self.usage.get(owner)?.map(|stored| stored.value());
        let (resources, bytes) = stored.unwrap_or_default();
        Ok(Usage { resources, bytes })
    }

    /// Counts a record for its owner, by its size before and after.
    fn count_for(
        &mut self,
        owner: Option<&str>,
        before: Option<usize>,
        after: Option<usize>,
    ) -> Result<(), StoreError> {
        let Some(owner) = owner else { return Ok(()) };
        let size = |bytes: Option<usize>| u64::try_from(bytes.unwrap_or(0)).unwrap_or(u64::MAX);
        let mut used = self.usage(owner)?;
        used.resources = used.resources.saturating_add(after.is_some().into());
        used.resources = used.resources.saturating_sub(before.is_some().into());
        used.bytes = used.bytes.saturating_add(size(after)).saturating_sub(size(before));
        self.used.insert(owner.into(), used);
        Ok(())
    }

    /// Writes the usage of the owners that this transaction has changed something of.
    fn settle_usage(&mut self) -> Result<(), StoreError> {
        for (owner, used) in std::mem::take(&mut self.used) {
            if used.resources == 0 {
                self.usage.remove(owner.as_str())?;
            } else {
                self.usage.insert(owner.as_str(), (used.resources, used.bytes))?;
            }
        }
        Ok(())
    }

    /// Counts all that is stored for its owners: a store of a version that did not count.
    pub(crate) fn count_all(&mut self) -> Result<(), StoreError> {
        let mut all: HashMap<String, Usage> = HashMap::new();
        for entry in self.tables.resources.iter()? {
            let (key, stored) = entry?;
            let bytes = stored.value();
            let record: Record = serde_json::from_slice(bytes)
                .map_err(|_| StoreError::Corrupt(key.value().into()))?;
            let Some(owner) = record.owner else { continue };
            let used = all.entry(owner).or_default();
            used.resources += 1;
            used.bytes += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        }
        self.used = all;
        Ok(())
    }

    /// Takes a resource, and so all that is below it, out of sight, however much that is. It is
    /// removed in parts by [`remove_detached`](Self::remove_detached). Nothing may get its
    /// resource-ID before that.
    pub(crate) fn detach(&mut self, ri: &str) -> Result<(), StoreError> {
        let mut record = self.tables.get(ri)?.ok_or_else(|| StoreError::Corrupt(ri.into()))?;
        self.remove_from_indices(&record)?;
        // What is below something that has expired is not found.
        record.parent = None;
        record.expires = Some(0);
        self.store(&record)?;
        self.detached.insert(ri, ())?;
        Ok(())
    }

    /// Removes what is detached, but no more than `most` resources. Gives how many: fewer than
    /// `most` means that nothing is left.
    pub(crate) fn remove_detached(&mut self, most: usize) -> Result<usize, StoreError> {
        let mut removed = 0;
        while removed < most {
            let first = self.detached.first()?.map(|(ri, _)| ri.value().to_owned());
            let Some(ri) = first else { break };
            removed += self.remove_tree(&ri, most - removed)?;
        }
        Ok(removed)
    }

    /// Removes a resource and all that is below it, leaves first, but no more than `most`
    /// resources. Gives how many: fewer than `most` means that nothing is left.
    pub(crate) fn remove_tree(&mut self, ri: &str, most: usize) -> Result<usize, StoreError> {
        // Holds one resource-ID for each level, however many resources there are.
        let mut path = vec![ri.to_owned()];
        let mut removed = 0;
        while removed < most {
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
        self.age_no_more(record)?;
        for (stem, wait) in record.names.awaited() {
            self.leave_wait(stem, wait, ri)?;
        }
        if let Some(parent) = &record.parent {
            self.tables.names.remove((parent.as_str(), record.name.as_str()))?;
            let place = (parent.as_str(), record.ty.number(), record.sequence);
            self.tables.children.remove(place)?;
        }
        Ok(())
    }

    /// The resource behind `after` in the order of resource-IDs, or the first.
    pub(crate) fn next_by_id(&self, after: Option<&str>) -> Result<Option<Record>, StoreError> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let bounds: (Bound<&str>, Bound<&str>) = (from, Bound::Unbounded);
        let Some(entry) = self.tables.resources.range::<&str>(bounds)?.next() else {
            return Ok(None);
        };
        let (ri, _) = entry?;
        self.tables.get(ri.value())
    }

    /// The resource-ID of a resource that has expired by itself.
    pub(crate) fn first_expired(&self, now: Seconds) -> Result<Option<String>, StoreError> {
        match self.expiry.first()? {
            Some((key, _)) if key.value().0 <= now => Ok(Some(key.value().1.into())),
            _ => Ok(None),
        }
    }
}

/// The store.
///
/// After a failed write redb refuses all further work with the database at hand, for nobody knows
/// what is on disk. Opened anew, it is repaired. So whoever meets an error calls
/// [`suspect`](Store::suspect), and the next who comes opens the file again.
pub(crate) struct Store {
    path: PathBuf,
    /// None while the file can't be opened.
    database: RwLock<Option<Database>>,
    suspected: AtomicBool,
    /// Those who write, one at a time and in the order in which they came.
    writers: Queue,
    /// Until when nothing is written: to open a large store anew after each of many failures, as on
    /// a full disk, would keep it from being read too.
    paused_until: Mutex<Option<Instant>>,
}

/// How long nothing is written after a failure.
const PAUSE: Duration = Duration::from_secs(1);

/// A database that is not opened anew for as long as this is held.
struct Open<'s>(RwLockReadGuard<'s, Option<Database>>);

impl Open<'_> {
    fn get(&self) -> Result<&Database, StoreError> {
        self.0.as_ref().ok_or(StoreError::Closed)
    }
}

fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE);
    builder
}

impl Store {
    /// Opens the file, or makes it. Also tells whether it holds tables of its own already.
    pub(crate) fn open(path: &Path) -> Result<(Self, bool), StoreError> {
        let database = builder().create(path)?;
        let in_use = database.begin_read()?.list_tables()?.next().is_some();
        awaits::convert(&database)?;
        let database = RwLock::new(Some(database));
        let store = Self {
            path: path.into(),
            database,
            suspected: AtomicBool::new(false),
            writers: Queue::default(),
            paused_until: Mutex::new(None),
        };
        Ok((store, in_use))
    }

    /// The database is not to be trusted after an error: it is opened anew before it is used.
    pub(crate) fn suspect(&self) {
        self.suspected.store(true, Ordering::Release);
    }

    fn is_suspected(&self) -> bool {
        self.suspected.load(Ordering::Acquire)
    }

    /// Whether it has failed, and has not been written since.
    pub(crate) fn fails(&self) -> bool {
        let paused = self.paused_until.lock().unwrap_or_else(PoisonError::into_inner);
        paused.is_some() || self.is_suspected()
    }

    fn database(&self) -> Result<Open<'_>, StoreError> {
        if self.is_suspected() {
            // Waits for those who are using it.
            let mut place = self.database.write().unwrap_or_else(PoisonError::into_inner);
            // Another may have been here first.
            if self.is_suspected() {
                // The file can't be opened twice. Nor is one made, should it have gone: an empty
                // store in its place would look like one that has forgotten everything.
                drop(place.take());
                *place = Some(builder().open(&self.path)?);
                *self.paused_until.lock().unwrap_or_else(PoisonError::into_inner) =
                    Some(Instant::now() + PAUSE);
                self.suspected.store(false, Ordering::Release);
                tracing::warn!(
                    event = "cse.store-reopened",
                    "the CSE's store was opened anew after a failure"
                );
            }
        }
        Ok(Open(self.database.read().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Looks at the store as it is now, with look-ups from a budget.
    pub(crate) fn snapshot(&self, budget: &RequestBudget) -> Result<Snapshot<'_>, StoreError> {
        let database = self.database()?;
        let transaction = database.get()?.begin_read()?;
        Ok(Snapshot {
            tables: Tables {
                budget: budget.clone(),
                resources: transaction.open_table(RESOURCES)?,
                names: transaction.open_table(NAMES)?,
                children: transaction.open_table(CHILDREN)?,
                firsts: transaction.open_table(FIRSTS)?,
                aging: transaction.open_table(AGING)?,
            },
            _transaction: transaction,
            _database: database,
        })
    }

    /// Whether something has expired by itself and is still stored.
    pub(crate) fn has_expired(&self, now: Seconds) -> Result<bool, StoreError> {
        let database = self.database()?;
        let expiry = database.get()?.begin_read()?.open_table(EXPIRY)?;
        Ok(expiry.first()?.is_some_and(|(key, _)| key.value().0 <= now))
    }

    /// Whether a subtree was deleted and is not removed yet.
    pub(crate) fn has_detached(&self) -> Result<bool, StoreError> {
        let database = self.database()?;
        let detached = database.get()?.begin_read()?.open_table(DETACHED)?;
        Ok(detached.first()?.is_some())
    }

    /// Changes the store: all that `work` does is on disk when this returns `Ok`, and none of it
    /// holds when it returns `Err`. The commit is made under the budget's authority, and not when
    /// the request has to stop.
    pub(crate) fn write<T, E: From<StoreError>>(
        &self,
        budget: &RequestBudget,
        work: impl FnOnce(&mut Writer<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let _turn = self.writers.wait();
        let database = self.database()?;
        let paused = *self.paused_until.lock().unwrap_or_else(PoisonError::into_inner);
        if paused.is_some_and(|until| Instant::now() < until) {
            return Err(StoreError::Paused.into());
        }
        // It may have had to stop while it waited.
        budget.check().map_err(StoreError::from)?;
        let mut transaction = database.get()?.begin_write().map_err(StoreError::from)?;
        transaction.set_durability(Durability::Immediate).map_err(StoreError::from)?;
        let done = {
            let mut writer = writer(&transaction, budget)?;
            let done = work(&mut writer)?;
            writer.settle_usage()?;
            done
        };
        let held = budget.hold().map_err(StoreError::from)?;
        transaction.commit().map_err(StoreError::from)?;
        drop(held);
        *self.paused_until.lock().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(done)
    }
}

fn writer<'t>(
    transaction: &'t redb::WriteTransaction,
    budget: &RequestBudget,
) -> Result<Writer<'t>, StoreError> {
    Ok(Writer {
        tables: Tables {
            budget: budget.clone(),
            resources: transaction.open_table(RESOURCES)?,
            names: transaction.open_table(NAMES)?,
            children: transaction.open_table(CHILDREN)?,
            firsts: transaction.open_table(FIRSTS)?,
            aging: transaction.open_table(AGING)?,
        },
        expiry: transaction.open_table(EXPIRY)?,
        awaits: transaction.open_table(AWAITS)?,
        detached: transaction.open_table(DETACHED)?,
        usage: transaction.open_table(USAGE)?,
        about: transaction.open_table(ABOUT)?,
        used: HashMap::new(),
    })
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
