//! Runs each target for its corpus and for recordings, in an ordinary build.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "tests")]

// An instrumented build compiles this test as well, for its features, and the engine must be
// linked.
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

/// Runs a target for each file of a folder. The output of a failed test ends with the file's name.
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
fn target_has_program_and_corpus() {
    let names = TARGETS.map(|(name, _)| name.to_string());
    assert_eq!(names_in(&package().join("corpus")), names.clone().into());
    assert_eq!(names_in(&package().join("fuzz_targets")), names.map(|name| name + ".rs").into());
}

#[test]
fn certificate_corpus_passes() {
    seeds("certificate");
}

#[test]
fn certification_request_corpus_passes() {
    seeds("certification_request");
}

#[test]
fn client_hello_corpus_passes() {
    seeds("client_hello");
}

#[test]
fn client_key_exchange_corpus_passes() {
    seeds("client_key_exchange");
}

#[test]
fn coap_corpus_passes() {
    seeds("coap");
}

#[test]
fn dtls_corpus_passes() {
    seeds("dtls");
}

#[test]
fn http_primitive_corpus_passes() {
    seeds("http_primitive");
}

#[test]
fn ids_corpus_passes() {
    seeds("ids");
}

#[test]
fn policy_table_corpus_passes() {
    seeds("policy_table");
}

#[test]
fn primitive_corpus_passes() {
    seeds("primitive");
}

#[test]
fn proxy_header_corpus_passes() {
    seeds("proxy_header");
}

#[test]
fn mqtt_corpus_passes() {
    seeds("mqtt");
}

#[test]
fn resource_content_corpus_passes() {
    seeds("resource_content");
}

#[test]
fn sealed_entry_corpus_passes() {
    seeds("sealed_entry");
}

#[test]
fn token_corpus_passes() {
    seeds("token");
}

#[test]
fn websocket_corpus_passes() {
    seeds("websocket");
}

#[test]
fn recorded_flights_pass() {
    let recordings = package().join("../host/handshake/testdata");
    replay(saegis_fuzz::client_hello, recordings.join("client-hellos"));
    replay(saegis_fuzz::client_key_exchange, recordings.join("client-key-exchanges"));
}
