use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use redb::ReadableTableMetadata as _;

use super::*;
use crate::budget::RequestBudget;
use crate::store::Store;
use crate::store::tables::ABOUT;
use crate::store::write::Writer;

fn store() -> (tempfile::TempDir, Arc<Store>) {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(&folder.path().join("store")).unwrap();
    store.write(&RequestBudget::unlimited(), |w| w.set_about("first", "")).unwrap();
    (folder, Arc::new(store))
}

/// Returns the number of changes that readers see.
fn seen(store: &Store) -> u64 {
    let table = store.access().unwrap().begin_read().unwrap().open_table(ABOUT).unwrap();
    table.len().unwrap() - 1
}

type Work = Box<dyn FnOnce(&Store, &mut Writer<'_>) -> Result<(), StoreError> + Send>;

/// Returns work that makes one change and reports how many changes readers see at that time.
fn change(name: &'static str, reports: &mpsc::Sender<(&'static str, u64)>) -> Work {
    let reports = reports.clone();
    Box::new(move |store, writer| {
        reports.send((name, seen(store))).unwrap();
        writer.set_about(name, "")
    })
}

/// The outcome of a writer, and the number of changes that readers see when it returns.
type Returned = (Result<(), StoreError>, u64);

/// Runs writers that wait for their turn at the same time, in this order.
fn run(store: &Arc<Store>, works: Vec<(bool, Work)>) -> Vec<thread::Result<Returned>> {
    let first = WriteTurn::wait(&store.writers, &store.file, false);
    let mut writers: Vec<JoinHandle<Returned>> = Vec::new();
    for (low_priority, work) in works {
        let (own, before) = (store.clone(), store.writers.lock.arrivals());
        writers.push(thread::spawn(move || {
            let budget = RequestBudget::unlimited();
            if low_priority {
                budget.lower_priority();
            }
            let written = own.write(&budget, |writer| work(&own, writer));
            (written, seen(&own))
        }));
        while store.writers.lock.arrivals() == before {
            thread::yield_now();
        }
    }
    drop(first);
    writers.into_iter().map(JoinHandle::join).collect()
}

#[test]
fn waiting_writers_share_flush() {
    let (folder, store) = store();
    let (reports, reported) = mpsc::channel();
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let works = names.map(|name| (false, change(name, &reports)));
    for returned in run(&store, works.into()) {
        let (written, seen) = returned.unwrap();
        written.unwrap();
        assert_eq!(seen, 8, "a writer returns after the flush, which covers all");
    }
    let reported: Vec<_> = reported.try_iter().collect();
    assert_eq!(reported, names.map(|name| (name, 0)));
    // A crash loses nothing.
    let copy = folder.path().join("copy");
    std::fs::copy(folder.path().join("store"), &copy).unwrap();
    assert_eq!(seen(&Store::open(&copy).unwrap().0), 8);
}

#[test]
fn writers_do_not_wait_for_those_that_give_way() {
    let (_folder, store) = store();
    let (reports, reported) = mpsc::channel();
    let works = [("low", true), ("other low", true), ("usual", false), ("other usual", false)];
    let works = works.map(|(name, low_priority)| (low_priority, change(name, &reports)));
    for returned in run(&store, works.into()) {
        returned.unwrap().0.unwrap();
    }
    let reported: Vec<_> = reported.try_iter().collect();
    assert_eq!(reported, [("usual", 0), ("other usual", 0), ("low", 2), ("other low", 2)]);
}

#[test]
fn number_of_commits_of_a_flush_is_limited() {
    let (_folder, store) = store();
    let (reports, reported) = mpsc::channel();
    let names: Vec<&'static str> = (0..=MAX_COMMITS).map(|n| &*n.to_string().leak()).collect();
    let works = names.iter().map(|name| (false, change(name, &reports))).collect();
    for returned in run(&store, works) {
        returned.unwrap().0.unwrap();
    }
    let seen: Vec<_> = reported.try_iter().map(|(_, seen)| seen).collect();
    let (last, before) = seen.split_last().unwrap();
    assert_eq!(before, [0; MAX_COMMITS]);
    assert_eq!(*last, u64::try_from(MAX_COMMITS).unwrap());
}

#[test]
fn refused_writer_returns_after_flush_of_what_it_saw() {
    let (_folder, store) = store();
    let (reports, _reported) = mpsc::channel();
    let refuse: Work = Box::new(|_, writer| {
        assert!(writer.about("a")?.is_some());
        writer.set_about("b", "")?;
        Err(StoreError::Corrupt("refused".into()))
    });
    let returned = run(&store, vec![(false, change("a", &reports)), (false, refuse)]);
    let [changed, refused] = returned.try_into().unwrap_or_else(|_| unreachable!());
    assert!(matches!(changed.unwrap(), (Ok(()), 1)));
    assert!(matches!(refused.unwrap(), (Err(StoreError::Corrupt(_)), 1)));
}

#[test]
fn panic_does_not_leave_writers_waiting() {
    let (_folder, store) = store();
    let (reports, _reported) = mpsc::channel();
    let panics: Work = Box::new(|_, writer| {
        writer.set_about("b", "")?;
        panic!("as intended");
    });
    let returned = run(&store, vec![(false, change("a", &reports)), (false, panics)]);
    let [changed, panicked] = returned.try_into().unwrap_or_else(|_| unreachable!());
    let (written, seen) = changed.unwrap();
    assert_eq!(written.is_ok(), seen == 1);
    assert!(panicked.is_err());
}

#[test]
fn failure_fails_all_writers_of_the_group() {
    let (_folder, store) = store();
    let (reports, _reported) = mpsc::channel();
    let fail: Work = Box::new(|store, _| {
        store.suspect();
        Err(StoreError::Corrupt("as intended".into()))
    });
    let works = vec![(false, change("a", &reports)), (false, fail), (false, change("b", &reports))];
    let [first, failed, last] = run(&store, works).try_into().unwrap_or_else(|_| unreachable!());
    assert!(matches!(first.unwrap().0, Err(StoreError::Flush(_))));
    assert!(matches!(failed.unwrap().0, Err(StoreError::Corrupt(_))));
    assert!(matches!(last.unwrap().0, Err(StoreError::File(error)) if error.is_paused()));
    assert!(store.fails());
    thread::sleep(saegis_store::PAUSE);
    store.write(&RequestBudget::unlimited(), |w| w.set_about("c", "")).unwrap();
    assert!(!store.fails());
}
