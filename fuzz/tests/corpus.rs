//! Every file of the corpus, and every recording that serves as one, in an ordinary build.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "tests")]

// An instrumented build makes this too, for its features, and the engine has what it is linked to.
#[cfg(fuzzing)]
use libfuzzer_sys as _;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use saegis_fuzz::{TARGETS, Target};

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn names_in(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Calls a target for each file of a folder. The output of a test that fails names the last.
fn replay(target: Target, folder: PathBuf) {
    let names = names_in(&folder);
    assert!(!names.is_empty(), "{} has no file", folder.display());
    for name in names {
        println!("{name}");
        target(&fs::read(folder.join(name)).unwrap());
    }
}

fn seeds(name: &str) {
    let (_, target) = TARGETS.into_iter().find(|(target, _)| *target == name).unwrap();
    replay(target, package().join("corpus").join(name));
}

#[test]
fn every_target_has_a_program_and_a_corpus() {
    let names = TARGETS.map(|(name, _)| name.to_string());
    assert_eq!(names_in(&package().join("corpus")), names.clone().into());
    assert_eq!(names_in(&package().join("fuzz_targets")), names.map(|name| name + ".rs").into());
}

#[test]
fn the_corpus_of_certificate_holds() {
    seeds("certificate");
}

#[test]
fn the_corpus_of_client_hello_holds() {
    seeds("client_hello");
}

#[test]
fn the_corpus_of_client_key_exchange_holds() {
    seeds("client_key_exchange");
}

#[test]
fn the_corpus_of_http_primitive_holds() {
    seeds("http_primitive");
}

#[test]
fn the_corpus_of_ids_holds() {
    seeds("ids");
}

#[test]
fn the_corpus_of_policy_table_holds() {
    seeds("policy_table");
}

#[test]
fn the_recorded_flights_hold() {
    let recordings = package().join("../host/handshake/testdata");
    replay(saegis_fuzz::client_hello, recordings.join("client-hellos"));
    replay(saegis_fuzz::client_key_exchange, recordings.join("client-key-exchanges"));
}
