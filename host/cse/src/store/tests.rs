use std::collections::{BTreeSet, HashMap};

use redb::{ReadTransaction, ReadableTableMetadata, TableDefinition};

use super::tables::{ANNOUNCEMENTS, AWAITS, GENERATED, MONITORED, PENDING, RETRIES, USAGE};
use super::*;
use crate::record::{InstanceTotals, Record};
use saegis_onem2m::resource::ResourceType;

impl Store {
    /// Checks that the indices match the resources.
    pub(crate) fn assert_consistent(&self) {
        let transaction = self.access().unwrap().begin_read().unwrap();
        let snapshot = self.snapshot(&RequestBudget::unlimited()).unwrap();
        let (mut children, mut pending, mut dues, mut generated) = (0, 0, 0, 0);
        let mut expiring = BTreeSet::new();
        let mut awaited = BTreeSet::new();
        let mut aging = BTreeSet::new();
        let mut indexed = Indexed::default();
        let mut usage: HashMap<String, (u64, u64)> = HashMap::new();
        let detached = transaction.open_table(DETACHED).unwrap();
        let resources = transaction.open_table(RESOURCES).unwrap();
        for entry in resources.iter().unwrap() {
            let (key, stored) = entry.unwrap();
            let record = snapshot.read().get(key.value()).unwrap().unwrap();
            assert_eq!(record.ri, key.value());
            let (events, bytes, due) = pending_of(&transaction, &record);
            pending += events;
            dues += due;
            let used = usage.entry(record.owner.clone().unwrap_or_default()).or_default();
            used.0 += 1;
            used.1 += bytes + u64::try_from(stored.value().len()).unwrap();
            if detached.get(key.value()).unwrap().is_some() {
                assert_eq!((record.expires, record.parent), (Some(0), None));
                continue;
            }
            indexed.add(&record);
            if let Some(at) = record.expires {
                expiring.insert((at, record.ri.clone()));
                if record.ty.is_instance() {
                    let (container, size) = (record.parent.clone().unwrap(), record.size.unwrap());
                    aging.insert((container, at, record.ri.clone(), size));
                }
            }
            let stems = record.names.awaited().into_iter();
            awaited.extend(stems.map(|(stem, wait)| (stem.to_owned(), wait, record.ri.clone())));
            if let Some(parent) = &record.parent {
                children += 1;
                generated += u64::from(record.generated.is_some());
                let above = snapshot.read().get(parent).unwrap().expect("a resource has a parent");
                assert_eq!(record.depth, above.depth + 1);
                assert_eq!(
                    snapshot.read().named(parent, &record.name).unwrap(),
                    Some(key.value().into())
                );
                let place = (parent.as_str(), record.ty.number(), record.sequence);
                let child = transaction.open_table(CHILDREN).unwrap();
                assert_eq!(child.get(place).unwrap().unwrap().value(), key.value());
            }
            if let Some(totals) = record.instances {
                let ty = record.ty.instances().unwrap();
                assert_eq!(totals, count_instances(&snapshot, key.value(), ty), "{}", record.ri);
            }
        }
        assert_eq!(transaction.open_table(NAMES).unwrap().len().unwrap(), children);
        assert_eq!(transaction.open_table(CHILDREN).unwrap().len().unwrap(), children);
        assert_eq!(entries(&transaction, EXPIRY, |(at, ri), ()| (at, ri.to_owned())), expiring);
        let ages =
            entries(&transaction, AGING, |(c, at, ri), size| (c.into(), at, ri.into(), size));
        assert_eq!(ages, aging);
        indexed.assert_consistent(&transaction);
        assert_waits_are_consistent(&transaction, &awaited);
        assert_eq!(counted_usage(&transaction), usage);
        assert_monitored_are_consistent(&transaction, self.monitors().unwrap());
        assert_eq!(pending_counts(&transaction), [pending, dues, generated]);
    }
}

/// The entries of the indices of labels, of creation times and of announcements.
#[derive(Default)]
struct Indexed {
    labeled: BTreeSet<(String, String)>,
    created: BTreeSet<(String, u64, String, u64)>,
    announced: BTreeSet<(String, u64, String)>,
}

impl Indexed {
    fn add(&mut self, record: &Record) {
        let labels = labels::labels(record).into_iter();
        self.labeled.extend(labels.map(|label| (label.to_owned(), record.ri.clone())));
        if let Some(at) = record.announcement.as_ref().and_then(|state| state.due) {
            let owner = record.owner.clone().unwrap_or_default();
            self.announced.insert((owner, at, record.ri.clone()));
        }
        if let (Some(owner), Some(_)) = (&record.owner, &record.parent) {
            self.created.insert((owner.clone(), record.created, record.ri.clone(), 0));
        }
    }

    fn assert_consistent(&self, transaction: &ReadTransaction) {
        let created =
            entries(transaction, CREATED, |(o, at, ri), none| (o.into(), at, ri.into(), none));
        assert_eq!(created, self.created);
        let labeled = entries(transaction, LABELS, |(l, ri), ()| (l.into(), ri.into()));
        assert_eq!(labeled, self.labeled);
        let due = entries(transaction, ANNOUNCEMENTS, |(o, at, ri), ()| (o.into(), at, ri.into()));
        let due: BTreeSet<(String, u64, String)> = due;
        let due: BTreeSet<_> = due.into_iter().filter(|(_, _, ri)| !ri.starts_with('/')).collect();
        assert_eq!(due, self.announced);
    }
}

/// Returns the number of resources and of bytes of each owner.
fn counted_usage(transaction: &ReadTransaction) -> HashMap<String, (u64, u64)> {
    let counted = transaction.open_table(USAGE).unwrap();
    let counted = counted.iter().unwrap().map(|entry| entry.unwrap());
    counted.map(|(owner, used)| (owner.value().to_owned(), used.value())).collect()
}

/// Returns the number of waiting events and notifications, of entries in the index of times, and of generation times.
fn pending_counts(transaction: &ReadTransaction) -> [u64; 3] {
    [
        transaction.open_table(PENDING).unwrap().len().unwrap()
            + transaction.open_table(RETRIES).unwrap().len().unwrap(),
        transaction.open_table(DUE).unwrap().len().unwrap(),
        transaction.open_table(GENERATED).unwrap().len().unwrap(),
    ]
}

/// Returns the number and the size of the events and notifications that wait at a resource, and the
/// number of its
/// entries in the index of times.
fn pending_of(transaction: &ReadTransaction, record: &Record) -> (u64, u64, u64) {
    let (mut pending, mut bytes) = (0, 0);
    let of_series = record.series.as_ref().and_then(|series| series.due);
    let of_events = record.waiting.as_ref().and_then(|waiting| waiting.due);
    let of_group = record.aggregation.as_ref().and_then(|aggregation| aggregation.due);
    let due = of_series.or(of_events).or(of_group);
    if let Some(at) = due {
        let times = transaction.open_table(DUE).unwrap();
        assert!(times.get((at, record.ri.as_str())).unwrap().is_some(), "{}", record.ri);
    }
    let of_subscription = record.waiting.iter().flat_map(|waiting| waiting.first..waiting.next);
    let windows = record.aggregation.iter().flat_map(|aggregation| &aggregation.windows);
    let of_group = windows.flat_map(|window| &window.notifications).map(|waiting| waiting.number);
    let events = transaction.open_table(PENDING).unwrap();
    for number in of_subscription.chain(of_group) {
        let event = events.get((record.ri.as_str(), number)).unwrap().unwrap();
        bytes += u64::try_from(event.value().len()).unwrap();
        pending += 1;
    }
    let own = (record.ri.as_str(), 0)..=(record.ri.as_str(), u64::MAX);
    for entry in transaction.open_table(RETRIES).unwrap().range(own).unwrap() {
        bytes += u64::try_from(entry.unwrap().1.value().len()).unwrap();
        pending += 1;
    }
    (pending, bytes, due.is_some().into())
}

/// Checks the index of monitored timeSeries.
fn assert_monitored_are_consistent(transaction: &ReadTransaction, monitors: u64) {
    let resources = transaction.open_table(RESOURCES).unwrap();
    let records = resources.iter().unwrap().map(|entry| {
        let (_, stored) = entry.unwrap();
        serde_json::from_slice::<Record>(stored.value()).unwrap()
    });
    let records: Vec<_> = records.collect();
    let counted = records.iter().filter(|record| monitors::monitors(record)).count();
    assert_eq!(u64::try_from(counted), Ok(monitors));
    let monitored: BTreeSet<_> = records
        .into_iter()
        .filter(Record::is_monitored)
        .filter_map(|record| Some((record.owner?, record.ri)))
        .collect();
    let indexed = entries(transaction, MONITORED, |(o, ri), ()| (o.to_owned(), ri.to_owned()));
    assert_eq!(indexed, monitored);
}

/// Checks the index of waits.
fn assert_waits_are_consistent(
    transaction: &ReadTransaction,
    awaited: &BTreeSet<(String, u64, String)>,
) {
    let indexed =
        entries(transaction, AWAITS, |(stem, wait, ri), ()| (stem.to_owned(), wait, ri.to_owned()));
    assert_eq!(indexed, *awaited);
    // The registrant of a completed wait is stored as long as a resource needs it. At most one wait
    // is open, the last.
    let firsts = transaction.open_table(FIRSTS).unwrap();
    for entry in firsts.iter().unwrap() {
        let (key, _) = entry.unwrap();
        let (stem, wait) = key.value();
        assert!(awaited.iter().any(|(s, w, _)| (s.as_str(), *w) == (stem, wait)), "{stem}");
    }
    for (stem, wait, _) in awaited {
        let is_last = !awaited.iter().any(|(s, w, _)| s == stem && w > wait);
        assert!(is_last || firsts.get((stem.as_str(), *wait)).unwrap().is_some(), "{stem}");
    }
}

/// Returns the entries of a table.
fn entries<K: redb::Key + 'static, V: redb::Value + 'static, E: Ord>(
    transaction: &ReadTransaction,
    table: TableDefinition<'_, K, V>,
    entry: impl Fn(K::SelfType<'_>, V::SelfType<'_>) -> E,
) -> BTreeSet<E> {
    let table = transaction.open_table(table).unwrap();
    let entries = table.iter().unwrap().map(|entry| entry.unwrap());
    entries.map(|(key, value)| entry(key.value(), value.value())).collect()
}

impl Store {
    /// Makes a resource unreadable.
    pub(crate) fn damage(&self, ri: &str) {
        let damaged = self.write(&RequestBudget::unlimited(), |writer| {
            writer.tables.resources.insert(ri, b"damaged".as_slice())?;
            Ok::<_, StoreError>(())
        });
        damaged.unwrap();
    }
}

impl Writer<'_> {
    /// Makes a resource unreadable.
    pub(crate) fn damage(&mut self, ri: &str) -> Result<(), StoreError> {
        let size = self.tables.resources.get(ri)?.unwrap().value().len();
        self.tables.resources.insert(ri, vec![0; size].as_slice())?;
        Ok(())
    }

    /// Makes a stored notification unreadable.
    pub(crate) fn damage_retry(&mut self, ri: &str, number: u64) -> Result<(), StoreError> {
        let size = self.retries.get((ri, number))?.unwrap().value().len();
        self.retries.insert((ri, number), vec![0; size].as_slice())?;
        Ok(())
    }

    /// Converts the store to the format of a version without the index of expiration times.
    pub(crate) fn forget_ages(&mut self) -> Result<(), StoreError> {
        self.about.remove("aging")?;
        self.tables.aging.retain(|_, _| false)?;
        Ok(())
    }

    /// Converts the store to the format of a version that counts only resources with an owner.
    pub(crate) fn forget_unowned_usage(&mut self) -> Result<(), StoreError> {
        self.about.remove("usage-without-owner")?;
        self.usage.remove("")?;
        Ok(())
    }

    /// Converts the store to the format of a version without usage counters.
    pub(crate) fn forget_usage(&mut self) -> Result<(), StoreError> {
        self.about.remove("usage")?;
        self.usage.retain(|_, _| false)?;
        Ok(())
    }
}

fn count_instances(snapshot: &Snapshot<'_>, container: &str, ty: ResourceType) -> InstanceTotals {
    let mut totals = InstanceTotals::default();
    let mut beyond = None;
    while let Some(c) = snapshot.read().instance(container, ty, Edge::Oldest, beyond).unwrap() {
        totals.count += 1;
        totals.bytes += snapshot.read().get(&c.ri).unwrap().unwrap().size.unwrap();
        beyond = Some(c.sequence);
    }
    totals
}

fn record(ri: &str, parent: Option<&str>, ty: ResourceType, sequence: u64) -> Record {
    Record {
        parent: parent.map(Into::into),
        sequence,
        depth: u16::from(parent.is_some()),
        size: Some(1),
        ..Record::new(ty, ri, 1)
    }
}

fn open() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let (store, in_use) = Store::open(&directory.path().join("store")).unwrap();
    assert!(!in_use);
    store.write(&RequestBudget::unlimited(), |_| Ok::<_, StoreError>(())).unwrap();
    (directory, store)
}

const CIN: ResourceType = ResourceType::ContentInstance;

fn fill(writer: &mut Writer<'_>) -> Result<(), StoreError> {
    writer.put(&record("base", None, ResourceType::CseBase, 0))?;
    writer.put(&record("box", Some("base"), ResourceType::Container, 0))?;
    for n in 0..5 {
        let sequence = writer.next_sequence("box", CIN)?;
        assert_eq!(sequence, n);
        let mut instance = record(&format!("cin{n}"), Some("box"), CIN, sequence);
        instance.depth = 2;
        writer.put(&instance)?;
    }
    let mut inner = record("inner", Some("box"), ResourceType::Container, 0);
    inner.depth = 2;
    writer.put(&inner)
}

#[test]
fn instances_are_found_from_both_ends() {
    let (_directory, store) = open();
    store.write(&RequestBudget::unlimited(), fill).unwrap();
    let snapshot = store.snapshot(&RequestBudget::unlimited()).unwrap();
    let at =
        |edge, beyond| snapshot.read().instance("box", CIN, edge, beyond).unwrap().map(|c| c.ri);
    assert_eq!(at(Edge::Oldest, None).as_deref(), Some("cin0"));
    assert_eq!(at(Edge::Oldest, Some(0)).as_deref(), Some("cin1"));
    assert_eq!(at(Edge::Oldest, Some(4)), None);
    assert_eq!(at(Edge::Oldest, Some(u64::MAX)), None);
    assert_eq!(at(Edge::Latest, None).as_deref(), Some("cin4"));
    assert_eq!(at(Edge::Latest, Some(4)).as_deref(), Some("cin3"));
    assert_eq!(at(Edge::Latest, Some(0)), None);
    assert_eq!(snapshot.read().instance("inner", CIN, Edge::Latest, None).unwrap(), None);
    // Also for a resource-ID that starts with the other one.
    assert_eq!(snapshot.read().instance("bo", CIN, Edge::Latest, None).unwrap(), None);
}

#[test]
fn children_come_by_type_and_age() {
    let (_directory, store) = open();
    store.write(&RequestBudget::unlimited(), fill).unwrap();
    let snapshot = store.snapshot(&RequestBudget::unlimited()).unwrap();
    let mut names = Vec::new();
    let mut last = None;
    while let Some(child) = snapshot.read().next_child("box", last.as_ref()).unwrap() {
        names.push(child.ri.clone());
        last = Some(child);
    }
    assert_eq!(names, ["inner", "cin0", "cin1", "cin2", "cin3", "cin4"]);
}

#[test]
fn tree_is_removed_in_parts_from_leaves() {
    let (_directory, store) = open();
    store.write(&RequestBudget::unlimited(), fill).unwrap();
    let remove =
        |most| store.write(&RequestBudget::unlimited(), |w| w.remove_tree("box", most)).unwrap();
    assert_eq!(remove(0), 0);
    assert_eq!(remove(3), 3);
    let snapshot = store.snapshot(&RequestBudget::unlimited()).unwrap();
    assert!(snapshot.read().get("box").unwrap().is_some());
    drop(snapshot);
    assert_eq!(remove(10), 4);
    store.assert_consistent();
    assert_eq!(store.snapshot(&RequestBudget::unlimited()).unwrap().read().count().unwrap(), 1);
    assert!(matches!(
        store.write(&RequestBudget::unlimited(), |w| w.remove_tree("box", 1)),
        Err(StoreError::Corrupt(ri)) if ri == "box"
    ));
}

#[test]
fn uncommitted_write_has_no_effect() {
    let (_directory, store) = open();
    let failed: Result<(), StoreError> = store.write(&RequestBudget::unlimited(), |writer| {
        fill(writer)?;
        Err(StoreError::Corrupt("on purpose".into()))
    });
    assert!(failed.is_err());
    assert_eq!(store.snapshot(&RequestBudget::unlimited()).unwrap().read().count().unwrap(), 0);
    store.assert_consistent();
}

#[test]
fn expiry_follows_its_resource() {
    let (_directory, store) = open();
    store.write(&RequestBudget::unlimited(), fill).unwrap();
    let put = |expires| {
        let mut changed = record("box", Some("base"), ResourceType::Container, 0);
        changed.expires = expires;
        store.write(&RequestBudget::unlimited(), |w| w.put(&changed)).unwrap();
    };
    put(Some(10));
    put(Some(20));
    assert!(!store.has_expired(19).unwrap());
    assert!(store.has_expired(20).unwrap());
    put(None);
    assert!(!store.has_expired(u64::MAX).unwrap());
    put(Some(5));
    store.write(&RequestBudget::unlimited(), |w| w.remove_tree("box", usize::MAX)).unwrap();
    assert!(!store.has_expired(u64::MAX).unwrap());
}

#[test]
fn damage_is_told_and_not_quoted() {
    let (_directory, store) = open();
    store.write(&RequestBudget::unlimited(), fill).unwrap();
    store
        .write(&RequestBudget::unlimited(), |w| {
            w.tables.resources.insert("box", br#"{"secret":"#.as_slice())?;
            Ok::<_, StoreError>(())
        })
        .unwrap();
    let error = store.snapshot(&RequestBudget::unlimited()).unwrap().read().get("box").unwrap_err();
    assert_eq!(error.to_string(), "the resource box in the store is damaged");
}
