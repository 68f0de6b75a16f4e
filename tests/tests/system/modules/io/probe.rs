//! A gateway with the module `io-probe`, which does what an identity says and tells what came of it.

use std::thread;
use std::time::{Duration, Instant};

use saegis_tests::{BOUND, Credential, Gateway, LIGHT1, Light, Setup};

/// What the probe's manifest asks for.
pub const MANIFEST: &str =
    "order = 1\ncapabilities = [\"outgoing-http\", \"key-value\", \"config\"]\n";

/// A gateway whose probe may send requests to these hosts, with limits as TOML.
pub fn setup(hosts: &[String], limits: &str) -> Setup {
    Setup::new()
        .with("modules.grants", "io-probe = [\"outgoing-http\", \"key-value\", \"config\"]")
        .with("modules.outgoing-http.io-probe", &format!("hosts = {hosts:?}\n{limits}"))
        .with("modules.key-value.io-probe", "quota-bytes = 1000")
        .with("modules.config.io-probe", "values = { color = \"green\" }")
        .with(
            "limits",
            "failed-handshakes-per-minute = 100000\nhandshakes-per-peer = 2000\nhandshakes = 4000",
        )
        .module("io-probe", MANIFEST)
}

/// A host of this machine.
pub fn host(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

/// A client that says words to the probe. It is never let in.
pub fn say(port: u16, words: &str) {
    let identity = format!("probe|{words}");
    let credential = Credential { identity: &identity, ..LIGHT1 };
    assert!(Light::connect(port, credential).is_err(), "the probe lets nobody in");
}

/// What the probe says to words.
#[track_caller]
pub fn told(gateway: &Gateway, words: &str) -> String {
    let mark = gateway.log().mark();
    say(gateway.port(), words);
    gateway.handshake_refused(mark).message()
}

/// Makes sure that the probe says something to words.
#[track_caller]
pub fn tells(gateway: &Gateway, words: &str, what: &str) {
    let told = told(gateway, words);
    assert!(told.contains(what), "{words}: {told}");
}

/// Waits until a text is in the gateway's log.
#[track_caller]
pub fn logged(gateway: &Gateway, text: &str) {
    let begin = Instant::now();
    while !gateway.log().text().contains(text) {
        assert!(begin.elapsed() < BOUND, "{text:?} is not in the log");
        thread::sleep(Duration::from_millis(20));
    }
}
