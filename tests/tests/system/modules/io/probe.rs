//! A gateway with the module `io-probe`, which executes the command in an identity and returns the
//! outcome as its reason.

use std::thread;
use std::time::{Duration, Instant};

use saegis_tests::{BOUND, Credential, Gateway, LIGHT1, Light, Setup};

/// Manifest of the probe.
pub const MANIFEST: &str =
    "order = 1\ncapabilities = [\"outgoing-http\", \"key-value\", \"config\"]\n";

/// Returns a gateway whose probe may send requests to these hosts, with limits as TOML.
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

/// Returns the URL of a local port.
pub fn host(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

/// Sends a command to the probe, which always refuses the handshake.
pub fn send_command(port: u16, words: &str) {
    let identity = format!("probe|{words}");
    let credential = Credential { identity: &identity, ..LIGHT1 };
    assert!(Light::connect(port, credential).is_err(), "the probe refuses every handshake");
}

/// Sends a command to the probe, and returns its outcome.
#[track_caller]
pub fn outcome(gateway: &Gateway, words: &str) -> String {
    let mark = gateway.log().mark();
    send_command(gateway.port(), words);
    gateway.handshake_refused(mark).message()
}

/// Asserts that the outcome of a command contains this text.
#[track_caller]
pub fn assert_outcome(gateway: &Gateway, words: &str, what: &str) {
    let actual = outcome(gateway, words);
    assert!(actual.contains(what), "{words}: {actual}");
}

/// Waits until the gateway's log contains a text.
#[track_caller]
pub fn wait_for_log(gateway: &Gateway, text: &str) {
    let begin = Instant::now();
    while !gateway.log().text().contains(text) {
        assert!(begin.elapsed() < BOUND, "{text:?} is not in the log");
        thread::sleep(Duration::from_millis(20));
    }
}
