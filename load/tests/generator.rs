//! Tests of the generator against the real gateway. Each mode prints figures, and a run with a
//! failure prints none.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use saegis_tests::{Gateway, Reply, Running, Setup, Upstream};
use serde_json::Value;
use tempfile::TempDir;

const IDENTITIES: &str = "20";

/// The modes, with short durations.
const FRESH: &[&str] = &["fresh", "--seconds", "1", "--warm-up", "0.1", "--checks-originators"];
const PERSISTENT: &[&str] =
    &["persistent", "--seconds", "1", "--warm-up", "0.1", "--connections", "4"];
const HOLD: &[&str] = &["hold", "--connections", "20", "--idle", "0.2"];

fn generator() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_saegis-load"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn credentials() -> TempDir {
    credentials_of(IDENTITIES)
}

fn credentials_of(identities: &str) -> TempDir {
    let folder = TempDir::with_prefix("saegis-load-").unwrap();
    let mut make = generator();
    make.args(["credentials", "--identities", identities, "--folder"]).arg(folder.path());
    assert!(make.status().unwrap().success());
    folder
}

/// Starts the CSE behind the gateway, and returns its port.
fn behind() -> (Running, u16) {
    listening(generator().arg("upstream"))
}

/// Starts a server of the generator, and returns its port.
fn listening(command: &mut Command) -> (Running, u16) {
    let running = Running::start(command);
    let port = running.out.wait(saegis_tests::BOUND, |bytes, _| {
        let line = String::from_utf8_lossy(bytes);
        line.strip_suffix('\n')?.strip_prefix("127.0.0.1:")?.parse().ok()
    });
    (running, port.expect("a port"))
}

fn gateway(credentials: &Path, upstream: u16) -> Gateway {
    configured(Setup::new().upstream(upstream), credentials, IDENTITIES).start()
}

/// Configures the gateway for these credentials.
fn configured(setup: Setup, credentials: &Path, identities: &str) -> Setup {
    for name in ["server.pem", "server.key", "client-ca.pem"] {
        // With its mode, because a key must be private.
        fs::copy(credentials.join(name), setup.path("policies").join(name)).unwrap();
    }
    let table = credentials.join(format!("{identities}.csv"));
    fs::copy(table, setup.table()).unwrap();
    setup.file(
        "certificates.toml",
        "[[own]]\ncertificate = \"server.pem\"\nkey = \"server.key\"\n\
         [[anchor]]\ncertificate = \"client-ca.pem\"\nflavours = [\"ae-id\"]\n",
    )
}

/// Starts a run against a server.
fn start(mode: &[&str], way: &str, port: u16, server: u32, credentials: &Path) -> Child {
    let mut load = generator();
    load.args(mode).args(["--way", way, "--identities", IDENTITIES, "--folder"]).arg(credentials);
    load.args(["--address", &format!("127.0.0.1:{port}"), "--pid", &server.to_string()]);
    load.spawn().unwrap()
}

fn run(mode: &[&str], way: &str, gateway: &Gateway, credentials: &Path) -> Output {
    let load = start(mode, way, gateway.port(), gateway.id(), credentials);
    load.wait_with_output().unwrap()
}

/// Returns the figures of a run.
#[track_caller]
fn figures(output: &Output) -> Value {
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaint}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Asserts that a run fails for this reason, without figures.
#[track_caller]
fn refused(output: &Output, why: &str) {
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    assert!(complaint.contains(why), "{complaint}");
}

#[test]
fn mode_prints_figures() {
    let credentials = credentials();
    let (_behind, port) = behind();
    let gateway = gateway(credentials.path(), port);
    let paced = [PERSISTENT, &["--pace", "50"]].concat();
    for way in ["psk-cbc", "psk-gcm", "tls12", "tls13", "tls13-resumed"] {
        let websocket = [PERSISTENT, &["--binding", "websocket", "--checks-originators"]].concat();
        for mode in [FRESH, PERSISTENT, &paced, &websocket] {
            let figures = figures(&run(mode, way, &gateway, credentials.path()));
            let figure = |name: &str| figures[name].as_f64().unwrap();
            assert!(figure("operations") >= 1.0, "{figures}");
            assert_eq!(figures["errors"], 0);
            assert!(figure("p50_us") > 0.0, "{figures}");
            assert!(figure("p50_us") <= figure("p99_us"), "{figures}");
            assert!(figure("p99_us") <= figure("p999_us"), "{figures}");
            if mode.contains(&"--pace") {
                assert!(figure("per_second") <= 75.0, "{figures}");
            }
        }
    }
    for way in ["psk-cbc", "tls13"] {
        let held = figures(&run(HOLD, way, &gateway, credentials.path()));
        assert_eq!(held["connections"], 20);
    }
}

/// Runs a mode over another binding against a gateway with this many identities.
fn run_over(binding: &str, mode: &[&str], identities: &str) -> Value {
    let credentials = credentials_of(identities);
    let (_behind, port) = behind();
    let setup = Setup::new().upstream(port).with("limits", "connections = 12000");
    let setup = if binding == "mqtt" { setup.with_mqtt() } else { setup.with_coap() };
    let gateway = configured(setup, credentials.path(), identities).start();
    let (way, port) = match binding {
        "mqtt" => ("psk-cbc", gateway.mqtt_port()),
        _ => ("dtls-psk-ccm8", gateway.coap_port()),
    };
    let mut load = generator();
    load.args(mode).args(["--binding", binding, "--way", way]);
    load.args(["--identities", identities, "--folder"]).arg(credentials.path());
    load.args(["--address", &format!("127.0.0.1:{port}")]);
    figures(&load.args(["--pid", &gateway.id().to_string()]).output().unwrap())
}

#[test]
fn requests_over_coap_have_figures() {
    for mode in [&FRESH[..5], PERSISTENT] {
        let figures = run_over("coap", &[mode, &["--checks-originators"]].concat(), IDENTITIES);
        assert!(figures["operations"].as_f64().unwrap() >= 1.0, "{figures}");
    }
    assert_eq!(run_over("coap", HOLD, IDENTITIES)["connections"], 20);
}

/// A datagram that is lost fails the run, because the generator does not repeat it.
#[test]
#[ignore = "takes minutes with a gateway for development; cargo xtask load runs it"]
fn load_of_ten_thousand_associations_over_one_socket() {
    let rate = if cfg!(debug_assertions) { "500" } else { "5000" };
    let mode = ["persistent", "--connections", "10000", "--pace", rate, "--seconds", "10"];
    let figures = run_over("coap", &mode, "10000");
    println!("{figures}");
    assert_eq!(figures["errors"], 0);
}

#[test]
fn creates_over_mqtt_have_figures() {
    let figures = run_over("mqtt", &[PERSISTENT, &["--checks-originators"]].concat(), IDENTITIES);
    assert!(figures["operations"].as_f64().unwrap() >= 1.0, "{figures}");
    assert_eq!(run_over("mqtt", HOLD, IDENTITIES)["connections"], 20);
}

/// Each session is used before and after its idle time.
#[test]
#[ignore = "takes minutes with a gateway for development; cargo xtask load runs it"]
fn load_of_ten_thousand_idle_mqtt_sessions() {
    let figures = run_over("mqtt", &["hold", "--connections", "10000"], "10000");
    assert_eq!(figures["connections"], 10_000);
}

#[test]
fn floor_forwards_requests_over_each_suite() {
    let credentials = credentials();
    let (_behind, upstream) = behind();
    let mut floor = generator();
    floor.args(["floor", "--identities", IDENTITIES, "--folder"]).arg(credentials.path());
    let (floor, port) = listening(floor.args(["--upstream", &format!("127.0.0.1:{upstream}")]));
    for way in ["psk-cbc", "psk-gcm", "tls12", "tls13"] {
        for mode in [&FRESH[..5], PERSISTENT] {
            let load = start(mode, way, port, floor.id(), credentials.path());
            let figures = figures(&load.wait_with_output().unwrap());
            assert!(figures["operations"].as_f64().unwrap() >= 1.0, "{figures}");
        }
    }
}

#[test]
fn connections_are_spread_over_credentials() {
    let credentials = credentials();
    let (_behind, port) = behind();
    // By default, 64 connections of one credential.
    let gateway = gateway(credentials.path(), port);
    let many = ["hold", "--connections", "80", "--idle", "0.1"];
    figures(&run(&many, "tls13", &gateway, credentials.path()));
    let one = [&many[..], &["--identities", "1"]].concat();
    let mut load = generator();
    load.args(&one).args(["--way", "tls13", "--folder"]).arg(credentials.path());
    load.args(["--address", &format!("127.0.0.1:{}", gateway.port())]);
    load.args(["--pid", &gateway.id().to_string()]);
    refused(&load.output().unwrap(), "the connection ends before the response");
}

#[test]
fn wrong_key_yields_no_figure() {
    let credentials = credentials();
    let (_behind, port) = behind();
    let gateway = gateway(credentials.path(), port);
    gateway.in_force_after(|gateway| {
        let table = gateway.table().replace(",4b743771", ",4c743771");
        gateway.replace("policies/psk-lookup-table.csv", table);
    });
    for mode in [&FRESH[..5], PERSISTENT, HOLD] {
        refused(&run(mode, "psk-cbc", &gateway, credentials.path()), "the handshake fails");
    }
}

#[test]
fn unexpected_response_yields_no_figure() {
    let credentials = credentials();
    let upstream = Upstream::start(Reply::answer(200, 2000, "{}"));
    let gateway = gateway(credentials.path(), upstream.port());
    for mode in [&FRESH[..5], PERSISTENT, HOLD] {
        let output = run(mode, "psk-cbc", &gateway, credentials.path());
        refused(&output, "the response is not that of the CSE");
    }
    upstream.reply_with(Reply::answer(404, 4004, "{}"));
    refused(&run(PERSISTENT, "psk-cbc", &gateway, credentials.path()), "status 404");
}

#[test]
fn server_that_ends_yields_no_figure() {
    let credentials = credentials();
    let (_behind, port) = behind();
    let idle = ["hold", "--connections", "4", "--idle", "5"];
    for mode in [&["fresh", "--seconds", "5"], &["persistent", "--seconds", "5"], &idle[..]] {
        let gateway = gateway(credentials.path(), port);
        let load = start(mode, "psk-cbc", gateway.port(), gateway.id(), credentials.path());
        gateway.log().wait("association.established");
        gateway.signal("KILL");
        let output = load.wait_with_output().unwrap();
        assert!(!output.status.success(), "{mode:?}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{mode:?}");
    }
}

#[test]
fn server_without_originator_check_yields_no_figure() {
    let credentials = credentials();
    let (behind, port) = behind();
    let load = start(FRESH, "plain", port, behind.id(), credentials.path());
    refused(&load.wait_with_output().unwrap(), "originators are not checked");
}

#[test]
fn handshakes_in_memory_have_figures() {
    let credentials = credentials();
    for way in ["psk-cbc", "psk-gcm", "tls12", "tls13"] {
        for threads in [&["1"][..], &["2"], &["2", "--apart"]] {
            let mut load = generator();
            load.args(["in-memory", "--seconds", "0.2", "--way", way, "--threads"]).args(threads);
            let figures = figures(&load.arg("--folder").arg(credentials.path()).output().unwrap());
            assert!(figures["operations"].as_f64().unwrap() >= 1.0, "{figures}");
            assert!(figures["server_cpu_us"].as_f64().unwrap() > 0.0, "{figures}");
        }
    }
}
