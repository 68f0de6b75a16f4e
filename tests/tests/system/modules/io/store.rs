//! `key-value`: the durable and bounded store of a module.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::probe::{assert_outcome, setup, wait_for_log};

const FILE: &str = "state/key-value/io-probe.redb";

#[test]
fn stored_value_survives_restart_and_power_cut() {
    let gateway = setup(&["http://127.0.0.1:1".into()], "").start();
    assert!(!gateway.path(FILE).exists(), "a module without values has no file");
    assert_outcome(&gateway, "read|a", "None");
    assert_outcome(&gateway, "set|a|7", "set");
    assert_outcome(&gateway, "read|a", "Some(7)");
    for n in 1..=3 {
        assert_outcome(&gateway, "increment|n", &format!("is {n}"));
    }
    let gateway = gateway.restart();
    assert_outcome(&gateway, "read|a", "Some(7)");
    assert_outcome(&gateway, "increment|n", "is 4");
    let gateway = gateway.kill_and_restart();
    assert_outcome(&gateway, "increment|n", "is 5");
    assert_outcome(&gateway, "exists|a", "true");
    assert_outcome(&gateway, "keys", "[\"a\", \"n\"]");
    assert_outcome(&gateway, "delete|a", "deleted");
    assert_outcome(&gateway, "exists|a", "false");
    assert_outcome(&gateway, "batch", "[(\"a\", 1), (\"b\", 2)], then [\"b\", \"n\"]");
    // Other users cannot read the store.
    for (path, mode) in [("state/key-value", 0o700), (FILE, 0o600)] {
        let found = fs::metadata(gateway.path(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode, "{path}: {found:o}");
    }
}

#[test]
fn store_is_limited_by_quota() {
    let gateway = setup(&["http://127.0.0.1:1".into()], "").start();
    // 1000 bytes. Each entry takes 32 bytes, a key of 8 and a value of 60.
    assert_outcome(
        &gateway,
        "fill|60",
        "10 fit, then Error::Other(\"the quota of 1000 bytes is reached\")",
    );
    assert_outcome(&gateway, "set|fill0000|61", "quota of 1000 bytes is reached");
    assert_outcome(&gateway, "set|fill0000|60", "set");
    assert_outcome(&gateway, "increment|new", "quota of 1000 bytes is reached");
    assert_outcome(&gateway, "delete|fill0000", "deleted");
    assert_outcome(&gateway, "increment|new", "is 1");
    let gateway = gateway.restart();
    assert_outcome(&gateway, "set|fill0000|60", "quota of 1000 bytes is reached");
}

#[test]
fn store_is_private_and_operations_are_bounded() {
    let gateway = setup(&["http://127.0.0.1:1".into()], "").start();
    assert_outcome(&gateway, "other-stores", "[false, false, false]");
    assert_outcome(&gateway, "handles", "15 more handles");
    assert_outcome(&gateway, "long-key", "a key is longer than 256 bytes");
    assert_outcome(&gateway, "many-keys", "more than 256 keys");
}

#[test]
fn damaged_store_fails_with_reason() {
    let setup = setup(&["http://127.0.0.1:1".into()], "");
    fs::create_dir_all(setup.path("state/key-value")).unwrap();
    fs::write(setup.path(FILE), "no store").unwrap();
    let gateway = setup.start();
    for words in ["read|a", "set|a|1", "increment|a", "keys"] {
        assert_outcome(&gateway, words, "io-probe.redb cannot be opened");
    }
    wait_for_log(&gateway, "key-value.failed");
    let found = fs::read(gateway.path(FILE)).unwrap();
    assert_eq!(found, b"no store", "the file is unchanged");
    // The store works again after the repair.
    fs::remove_file(gateway.path(FILE)).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1100));
    assert_outcome(&gateway, "set|a|1", "set");
}

#[test]
fn unwritable_store_fails() {
    let setup = setup(&["http://127.0.0.1:1".into()], "").with(
        "modules",
        // A file cannot contain a folder.
        "key-value-folder = \"saegis.toml/key-value\"",
    );
    let gateway = setup.start();
    assert_outcome(&gateway, "set|a|1", "cannot be opened");
    assert_outcome(&gateway, "read|a", "cannot be opened");
}
