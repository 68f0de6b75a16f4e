use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::SystemTime;

use saegis_onem2m::primitive::Operation;
use serde_json::json;

use crate::settings::Settings;
use crate::testing::{Bench, LIGHT1, LIGHT2, request, settings};
use crate::{EmbeddedCse, Handled, OpenError, RequestBudget};

#[test]
fn confirmed_changes_survive_reopening() {
    let bench = Bench::with_lights();
    for n in 0..3 {
        bench.instance(LIGHT1, "/cse/light1/state", json!({"con": n}));
    }
    assert_eq!(bench.delete(LIGHT2, "/cse/light2").code, 2002);
    let before = bench.retrieve(LIGHT1, "/cse/light1?rcn=4").json;
    let base = bench.retrieve(LIGHT1, "/cse").json;
    let bench = bench.reopen();
    bench.cse().store().assert_consistent();
    assert_eq!(bench.retrieve(LIGHT1, "/cse/light1?rcn=4").json, before);
    assert_eq!(bench.retrieve(LIGHT1, "/cse").json, base);
    assert_eq!(bench.retrieve(LIGHT1, "/cse/light1/state/la").attributes()["con"], 2);
    assert_eq!(bench.retrieve(LIGHT2, "/cse").code, 4103);
    assert_eq!(bench.register(LIGHT1, "again").code, 4117);
}

#[test]
fn new_settings_hold_for_an_old_store() {
    let bench = Bench::with_lights();
    let bench = bench
        .reopen_as(Settings {
            csebase_name: "base".into(),
            points_of_access: vec!["https://gateway.example".into()],
            ..settings()
        })
        .unwrap();
    let reply = bench.retrieve(LIGHT1, "/base");
    assert_eq!(reply.attributes()["poa"], json!(["https://gateway.example"]));
    assert_eq!(bench.retrieve(LIGHT1, "/cse/light1").code, 4004);
    assert_eq!(bench.retrieve(LIGHT1, "/base?fu=1").found()[0], "base/light1");
    let taken = Settings { csebase_name: LIGHT1.into(), ..settings() };
    assert!(matches!(bench.reopen_as(taken), Err(OpenError::NameTaken(n)) if n == LIGHT1));
}

#[test]
fn store_of_other_cse_is_refused() {
    let other = Settings { cse_id: "other".parse().unwrap(), ..settings() };
    let error = Bench::with_lights().reopen_as(other).err().unwrap();
    assert_eq!(error.to_string(), "the store belongs to the CSE /mn-cse-123456, not to /other");
}

#[test]
fn unknown_store_layout_is_refused() {
    let bench = Bench::with_lights();
    bench.cse().store().write(&RequestBudget::unlimited(), |w| w.set_about("schema", "3")).unwrap();
    let error = bench.reopen_as(settings()).err().unwrap();
    assert_eq!(error.to_string(), "the store has the layout version 3; this CSE supports 2");
}

#[test]
fn invalid_store_file_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    std::fs::write(&path, "something else entirely").unwrap();
    assert!(matches!(EmbeddedCse::open(&path, settings()), Err(OpenError::Store(_))));
    assert_eq!(std::fs::read(&path).unwrap(), b"something else entirely");

    let path = directory.path().join("foreign");
    let table: redb::TableDefinition<'_, u8, u8> = redb::TableDefinition::new("theirs");
    let database = redb::Database::create(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(table).unwrap().insert(1, 1).unwrap();
    transaction.commit().unwrap();
    drop(database);
    assert!(matches!(EmbeddedCse::open(&path, settings()), Err(OpenError::Foreign)));

    let bad = Settings { csebase_name: "-".into(), ..settings() };
    let path = directory.path().join("never");
    assert!(matches!(EmbeddedCse::open(&path, bad), Err(OpenError::Settings(_))));
    assert!(!path.exists());
    assert!(EmbeddedCse::open(&directory.path().join("no/such/folder"), settings()).is_err());
}

#[test]
fn store_can_be_opened_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let first = EmbeddedCse::open(&path, settings()).unwrap();
    assert!(matches!(EmbeddedCse::open(&path, settings()), Err(OpenError::Store(_))));
    drop(first);
    assert!(EmbeddedCse::open(&path, settings()).is_ok());
}

#[test]
fn large_subtree_is_deleted_at_once_in_parts() {
    use crate::SWEEP_BATCH;
    let mut limits = settings();
    limits.limits.max_instances = 2 * u64::try_from(SWEEP_BATCH).unwrap();
    let mut bench = Bench::lights(limits);
    let count = u64::try_from(SWEEP_BATCH).unwrap() + 500;
    bench.fill(LIGHT1, "/cse/light1/state", count);
    bench.fill(LIGHT2, "/cse/light2/state", count);
    bench.cse().store().assert_consistent();
    assert_eq!(bench.delete(LIGHT1, "/cse/light1").code, 2002);
    bench.cse().store().assert_consistent();
    let left = bench.snapshot().read().count().unwrap();
    assert_eq!(left, 3 + count);

    bench.pass(31 * 24 * 3600);
    assert_eq!(bench.sweep(), SWEEP_BATCH);
    assert_eq!(bench.retrieve("/in-cse", "/cse/light2").code, 4004);
    assert_eq!(bench.register(LIGHT2, "light2").code, 2001);
    assert_eq!(bench.sweep(), 0);
    assert_eq!(bench.snapshot().read().count().unwrap(), 2);
    bench.cse().store().assert_consistent();
}

/// Environment variable with the store of the process that is killed.
const STORE: &str = "SAEGIS_TEST_STORE_OF_THE_KILLED";

#[test]
fn confirmed_changes_survive_kill() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "tests::durability::registers_until_killed", "--ignored", "--nocapture"])
        .env(STORE, &path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // Open until the end, so that the child is killed while it works.
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let answered: Vec<_> = lines
        .by_ref()
        .map_while(Result::ok)
        .filter_map(|line| line.strip_prefix("registered ").map(String::from))
        .take(100)
        .collect();
    // On Unix this is SIGKILL, after which no part of the process runs.
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(answered.len(), 100);
    let cse = EmbeddedCse::open(&path, settings()).unwrap();
    cse.store().assert_consistent();
    for stem in answered {
        let to = format!("/{stem}");
        let retrieve = request(Operation::Retrieve, &to, Some(&stem), None);
        assert_eq!(
            code(cse.handle(&retrieve, &RequestBudget::unlimited(), SystemTime::now())),
            2000,
            "{stem}"
        );
    }
}

#[test]
#[ignore = "runs until it is killed, by another test"]
fn registers_until_killed() {
    let Some(path) = std::env::var_os(STORE) else { return };
    let cse = EmbeddedCse::open(Path::new(&path), settings()).unwrap();
    let register = |stem: &str| {
        let ae = json!({"m2m:ae": {"api": "Nlight", "rr": true}});
        let mut create = request(Operation::Create, "/cse", Some(stem), Some(ae));
        create.resource_type = Some(2);
        assert_eq!(code(cse.handle(&create, &RequestBudget::unlimited(), SystemTime::now())), 2001);
        println!("\nregistered {stem}");
    };
    // Concurrent writers share a flush.
    std::thread::scope(|scope| {
        for writer in 0..8 {
            scope
                .spawn(move || (0..10_000).for_each(|n| register(&format!("Ckilled{writer}x{n}"))));
        }
    });
}

fn code(handled: Handled) -> u16 {
    match handled {
        Handled::Done(answer) => answer.response.rsc.code(),
        other => panic!("it is not answered yet: {other:?}"),
    }
}
