//! Changes of policy files while artifacts are fetched.

use std::fs;
use std::thread;
use std::time::Duration;

use saegis_tests::{Setup, eventually, saegis};

use super::fake_registry::{FakeRegistry, Response, digest, manifest};
use super::registry::certify;
use super::{shipped_module, write_manifest};

/// Changes that come faster than a registry responds do not restart the fetch without end.
#[test]
fn frequent_changes_do_not_prevent_fetch() {
    let setup = Setup::new();
    certify(&setup.path(""));
    let module = fs::read(shipped_module(&setup)).unwrap();
    let of_module = manifest(&digest(&module), module.len() as u64);
    let pinned = digest(&of_module);
    let answers = vec![
        ("manifests".into(), Response::Late(of_module)),
        ("blobs".into(), Response::Complete(module)),
    ];
    let registry = FakeRegistry::start(&setup.path(""), answers);
    let lines = format!("host = \"{}\"\nca-file = \"ca.pem\"", registry.host());
    let gateway = setup.with_another("[artifacts.registry]", &lines).start();
    let second = gateway.path("policies/modules/second.toml");
    write_manifest(&second, &format!("oci://{}/x:1@{pinned}", registry.host()));
    let table = gateway.table();
    let mut changes = 0;
    eventually(|| {
        changes += 1;
        let changed = format!("{table}# {changes}\n");
        gateway.replace("policies/psk-lookup-table.csv", changed);
        thread::sleep(Duration::from_millis(200));
        let modules = saegis(&gateway.path(""), &["modules", "--json"]).expect(0).json();
        match modules["modules"].as_array().unwrap().iter().any(|m| m["name"] == "second") {
            true => Ok(()),
            false => Err(modules),
        }
    });
}
