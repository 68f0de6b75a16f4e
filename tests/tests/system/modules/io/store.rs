//! `key-value`: a module's own store, durable and bounded.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::probe::{logged, setup, tells};

const FILE: &str = "state/key-value/io-probe.redb";

#[test]
fn what_is_stored_survives_a_restart_and_a_power_cut() {
    let gateway = setup(&["http://127.0.0.1:1".into()], "").start();
    assert!(!gateway.path(FILE).exists(), "who stores nothing has no file");
    tells(&gateway, "read|a", "None");
    tells(&gateway, "set|a|7", "set");
    tells(&gateway, "read|a", "Some(7)");
    for n in 1..=3 {
        tells(&gateway, "increment|n", &format!("is {n}"));
    }
    let gateway = gateway.restart();
    tells(&gateway, "read|a", "Some(7)");
    tells(&gateway, "increment|n", "is 4");
    let gateway = gateway.kill_and_restart();
    tells(&gateway, "increment|n", "is 5");
    tells(&gateway, "exists|a", "true");
    tells(&gateway, "keys", "[\"a\", \"n\"]");
    tells(&gateway, "delete|a", "deleted");
    tells(&gateway, "exists|a", "false");
    tells(&gateway, "batch", "[(\"a\", 1), (\"b\", 2)], then [\"b\", \"n\"]");
    // Nobody else on the machine is to read it.
    for (path, mode) in [("state/key-value", 0o700), (FILE, 0o600)] {
        let found = fs::metadata(gateway.path(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode, "{path}: {found:o}");
    }
}

#[test]
fn the_quota_is_the_stores_bound() {
    let gateway = setup(&["http://127.0.0.1:1".into()], "").start();
    // 1000 bytes; each entry is 32, a key of 8 and a value of 60.
    tells(&gateway, "fill|60", "10 fit, then Error::Other(\"the quota of 1000 bytes is reached\")");
    tells(&gateway, "set|fill0000|61", "quota of 1000 bytes is reached");
    tells(&gateway, "set|fill0000|60", "set");
    tells(&gateway, "increment|new", "quota of 1000 bytes is reached");
    tells(&gateway, "delete|fill0000", "deleted");
    tells(&gateway, "increment|new", "is 1");
    let gateway = gateway.restart();
    tells(&gateway, "set|fill0000|60", "quota of 1000 bytes is reached");
}

#[test]
fn store_is_private_and_operations_are_bounded() {
    let gateway = setup(&["http://127.0.0.1:1".into()], "").start();
    tells(&gateway, "other-stores", "[false, false, false]");
    tells(&gateway, "handles", "15 more handles");
    tells(&gateway, "long-key", "a key is longer than 256 bytes");
    tells(&gateway, "many-keys", "more than 256 keys at once");
}

#[test]
fn damaged_store_fails_with_reason() {
    let setup = setup(&["http://127.0.0.1:1".into()], "");
    fs::create_dir_all(setup.path("state/key-value")).unwrap();
    fs::write(setup.path(FILE), "no store").unwrap();
    let gateway = setup.start();
    for words in ["read|a", "set|a|1", "increment|a", "keys"] {
        tells(&gateway, words, "io-probe.redb can't be opened");
    }
    logged(&gateway, "key-value.failed");
    let found = fs::read(gateway.path(FILE)).unwrap();
    assert_eq!(found, b"no store", "it is left as it was");
    // Mended, it serves again.
    fs::remove_file(gateway.path(FILE)).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1100));
    tells(&gateway, "set|a|1", "set");
}

#[test]
fn a_store_that_can_not_be_written_fails() {
    let setup = setup(&["http://127.0.0.1:1".into()], "").with(
        "modules",
        // A folder cannot be made in a file.
        "key-value-folder = \"saegis.toml/key-value\"",
    );
    let gateway = setup.start();
    tells(&gateway, "set|a|1", "can't be opened");
    tells(&gateway, "read|a", "can't be opened");
}
