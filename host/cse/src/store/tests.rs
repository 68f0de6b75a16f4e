use std::collections::{BTreeSet, HashMap};

use redb::{ReadTransaction, ReadableTableMetadata, TableDefinition};

use super::tables::{AWAITS, USAGE};
use super::*;
use crate::record::names::Names;
use crate::record::{Attributes, InstanceTotals, Record};
use saegis_onem2m::resource::ResourceType;

impl Store {
    /// Checks that the indices match the resources.
    pub(crate) fn assert_consistent(&self) {
        let transaction = self.access().unwrap().begin_read().unwrap();
        let snapshot = self.snapshot(&RequestBudget::unlimited()).unwrap();
        let mut children = 0;
        let mut expiring = BTreeSet::new();
        let mut awaited = BTreeSet::new();
        let mut aging = BTreeSet::new();
        let mut usage: HashMap<String, (u64, u64)> = HashMap::new();
        let detached = transaction.open_table(DETACHED).unwrap();
        let resources = transaction.open_table(RESOURCES).unwrap();
        for entry in resources.iter().unwrap() {
            let (key, stored) = entry.unwrap();
            let record = snapshot.read().get(key.value()).unwrap().unwrap();
            assert_eq!(record.ri, key.value());
            if let Some(owner) = &record.owner {
                let used = usage.entry(owner.clone()).or_default();
                used.0 += 1;
                used.1 += u64::try_from(stored.value().len()).unwrap();
            }
            if detached.get(key.value()).unwrap().is_some() {
                assert_eq!((record.expires, record.parent), (Some(0), None));
                continue;
            }
            if let Some(at) = record.expires {
                expiring.insert((at, record.ri.clone()));
                if record.ty == CIN {
                    let (container, size) = (record.parent.clone().unwrap(), record.size.unwrap());
                    aging.insert((container, at, record.ri.clone(), size));
                }
            }
            let stems = record.names.awaited().into_iter();
            awaited.extend(stems.map(|(stem, wait)| (stem.to_owned(), wait, record.ri.clone())));
            if let Some(parent) = &record.parent {
                children += 1;
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
                assert_eq!(totals, count_instances(&snapshot, key.value()), "{}", record.ri);
            }
        }
        assert_eq!(transaction.open_table(NAMES).unwrap().len().unwrap(), children);
        assert_eq!(transaction.open_table(CHILDREN).unwrap().len().unwrap(), children);
        let indexed = entries(&transaction, EXPIRY, |(at, ri), ()| (at, ri.to_owned()));
        assert_eq!(indexed, expiring);
        let indexed =
            entries(&transaction, AGING, |(c, at, ri), size| (c.into(), at, ri.into(), size));
        assert_eq!(indexed, aging);
        assert_waits_are_consistent(&transaction, &awaited);
        let counted = transaction.open_table(USAGE).unwrap();
        let counted = counted.iter().unwrap().map(|entry| entry.unwrap());
        let counted: HashMap<_, _> =
            counted.map(|(owner, used)| (owner.value().to_owned(), used.value())).collect();
        assert_eq!(counted, usage);
    }
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

impl Writer<'_> {
    /// Converts the store to the format of a version without the index of expiration times.
    pub(crate) fn forget_ages(&mut self) -> Result<(), StoreError> {
        self.about.remove("aging")?;
        self.tables.aging.retain(|_, _| false)?;
        Ok(())
    }

    /// Converts the store to the format of a version without usage counters.
    pub(crate) fn forget_usage(&mut self) -> Result<(), StoreError> {
        self.about.remove("usage")?;
        self.usage.retain(|_, _| false)?;
        Ok(())
    }
}

fn count_instances(snapshot: &Snapshot<'_>, container: &str) -> InstanceTotals {
    let mut totals = InstanceTotals::default();
    let mut beyond = None;
    while let Some(c) = snapshot.read().instance(container, Edge::Oldest, beyond).unwrap() {
        totals.count += 1;
        totals.bytes += snapshot.read().get(&c.ri).unwrap().unwrap().size.unwrap();
        beyond = Some(c.sequence);
    }
    totals
}

fn record(ri: &str, parent: Option<&str>, ty: ResourceType, sequence: u64) -> Record {
    Record {
        ty,
        ri: ri.into(),
        name: ri.into(),
        parent: parent.map(Into::into),
        sequence,
        depth: u16::from(parent.is_some()),
        owner: None,
        named_by: None,
        registrant: None,
        names: Names::default(),
        created: 1,
        modified: 1,
        expires: None,
        state: None,
        instances: None,
        size: Some(1),
        opens: false,
        attributes: Attributes::new(),
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
    let at = |edge, beyond| snapshot.read().instance("box", edge, beyond).unwrap().map(|c| c.ri);
    assert_eq!(at(Edge::Oldest, None).as_deref(), Some("cin0"));
    assert_eq!(at(Edge::Oldest, Some(0)).as_deref(), Some("cin1"));
    assert_eq!(at(Edge::Oldest, Some(4)), None);
    assert_eq!(at(Edge::Oldest, Some(u64::MAX)), None);
    assert_eq!(at(Edge::Latest, None).as_deref(), Some("cin4"));
    assert_eq!(at(Edge::Latest, Some(4)).as_deref(), Some("cin3"));
    assert_eq!(at(Edge::Latest, Some(0)), None);
    assert_eq!(snapshot.read().instance("inner", Edge::Latest, None).unwrap(), None);
    // Also for a resource-ID that starts with the other one.
    assert_eq!(snapshot.read().instance("bo", Edge::Latest, None).unwrap(), None);
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
