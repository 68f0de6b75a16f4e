//! Many concurrent faults that must not affect other traffic.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use saegis_tests::{
    BOUND, Credential, Gateway, LIGHT1, LIGHT2, Light, Mark, Request, Setup, connect_from,
};
use serde_json::json;

/// Faults of a module in look-ups and in checks.
const FAULTS: [&str; 5] =
    ["fault-loop", "fault-trap", "fault-recurse", "fault-memory", "fault-log"];

/// Faults that only checks have.
const CHECK_FAULTS: [&str; 2] = ["fault-rsc", "fault-reason"];

/// Runs valid traffic until `over` is set: one permanent association and one that reconnects.
/// Asserts each response, and returns the number of requests and of handshakes.
fn good_traffic(gateway: &Gateway, stop: &AtomicBool) -> (usize, usize) {
    let port = gateway.port();
    let own = || Request::retrieve("/cse/light1").from("Clight-AE1");
    thread::scope(|scope| {
        let permanent = scope.spawn(move || {
            let mut light = Light::connect(port, LIGHT1).unwrap();
            let mut requests = 0;
            while !stop.load(Ordering::Relaxed) {
                light.ask(&own()).unwrap().expect(200, 2000);
                requests += 1;
            }
            requests
        });
        let reconnecting = scope.spawn(move || {
            let mut handshakes = 0;
            while !stop.load(Ordering::Relaxed) {
                let mut light = Light::connect(port, LIGHT2).unwrap();
                let nothing = Request::retrieve("/cse/nothing").from("Clight-AE2");
                light.ask(&nothing).unwrap().expect_refusal(404, 4004);
                light.close();
                handshakes += 1;
            }
            handshakes
        });
        (permanent.join().unwrap(), reconnecting.join().unwrap())
    })
}

/// A thousand decisions fail in every possible way. All decisions of other traffic succeed, because
/// each of its responses is asserted.
#[test]
fn module_faults_cost_only_their_decisions() {
    let gateway = Setup::new()
        .module("faulty", "order = 1\ncapabilities = [\"log\"]\n")
        .with("limits", "failed-handshakes-per-minute = 100000")
        // A fifth of the faults are loops, so the deadline is short.
        .with("modules", "deadline-milliseconds = 40")
        .with_metrics()
        .start();
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    light.ask(&Request::create_ae("light1").from("Clight-AE1")).unwrap().expect(201, 2001);
    let (port, stop) = (gateway.port(), AtomicBool::new(false));
    let (requests, handshakes) = thread::scope(|scope| {
        let bad = scope.spawn(|| {
            let lookups = scope.spawn(|| {
                for n in 0..500 {
                    let identity = format!("{}@in.provider.com", FAULTS[n % FAULTS.len()]);
                    let credential = Credential { identity: &identity, ..LIGHT1 };
                    assert!(Light::connect(port, credential).is_err(), "{identity} was accepted");
                }
            });
            let mut light = Light::connect(port, LIGHT1).unwrap();
            for n in 0..500 {
                let all = FAULTS.iter().chain(&CHECK_FAULTS).filter(|f| **f != "fault-log");
                let fault = all.cycle().nth(n).unwrap();
                let request = Request::retrieve(&format!("/cse/{fault}")).from("Clight-AE1");
                let response = light.ask(&request).unwrap();
                let rsc = if *fault == "fault-reason" { 4103 } else { 5000 };
                assert_eq!(response.rsc(), Some(rsc), "{fault}: {response:?}");
            }
            lookups.join().unwrap();
            stop.store(true, Ordering::Relaxed);
        });
        let good = good_traffic(&gateway, &stop);
        bad.join().unwrap();
        good
    });
    assert!(requests > 100 && handshakes > 50, "{requests} requests, {handshakes} handshakes");
    let metrics = gateway.monitor("/metrics");
    let of = |cause| {
        metrics
            .value(&format!("saegis_sandbox_faults_total{{module=\"faulty\",cause=\"{cause}\"}}"))
    };
    let faults = of("deadline") + of("trap") + of("memory") + of("invalid-response");
    // All but a fifth of the look-ups, whose excessive log lines are not a failure, and a sixth of
    // the checks, whose reason is a valid denial.
    assert!(faults >= 800.0, "{faults}:\n{}", metrics.text);
}

/// Invalid connections: silent, garbage, HTTP, or incomplete.
#[test]
fn bad_connections_cost_only_themselves() {
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;
    let gateway = Setup::new()
        .with("limits", "failed-handshakes-per-minute = 100000")
        .with("limits", "handshakes-per-peer = 2000")
        .start();
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    light.ask(&Request::create_ae("light1").from("Clight-AE1")).unwrap().expect(201, 2001);
    let (port, stop, next) = (gateway.port(), AtomicBool::new(false), AtomicUsize::new(0));
    let (requests, handshakes) = thread::scope(|scope| {
        let bad = scope.spawn(|| {
            while let n @ 0..1000 = next.fetch_add(1, Ordering::Relaxed) {
                let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
                let bytes: &[u8] = match n % 5 {
                    0 => b"",
                    1 => b"GET / HTTP/1.1\r\nHost: gateway\r\n\r\n",
                    2 => b"\x16\x03\x01\xff\xff\x01\x00\x40\x00",
                    3 => &[0x5a; 4000],
                    _ => b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03",
                };
                // The gateway may close the connection before it has read all bytes.
                let _ = socket.write_all(bytes);
                if n % 2 == 0 {
                    let _ = socket.shutdown(std::net::Shutdown::Write);
                    let _ = socket.read(&mut [0; 64]);
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
        let good = good_traffic(&gateway, &stop);
        bad.join().unwrap();
        good
    });
    assert!(requests > 20 && handshakes > 10, "{requests} requests, {handshakes} handshakes");
}

/// Looping look-ups occupy all sandboxes that one address may use, for longer than others wait.
/// Handshakes from other addresses and requests are not delayed.
#[test]
fn looping_lookups_of_one_address_do_not_delay_others() {
    let gateway = Setup::new()
        .module("faulty", "order = 1\ncapabilities = [\"log\"]\n")
        .with("limits", "failed-handshakes-per-minute = 100000\nhandshakes-per-peer = 2000")
        .with("modules", "concurrent-decisions = 8\ndeadline-milliseconds = 4000")
        .start();
    let port = gateway.port();
    let mut light = Light::connect(port, LIGHT1).unwrap();
    light.ask(&Request::create_ae("light1").from("Clight-AE1")).unwrap().expect(201, 2001);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for n in 0..150 {
            let stop = &stop;
            scope.spawn(move || {
                let identity = format!("fault-loop@{n}.in.provider.com");
                let credential = Credential { identity: &identity, ..LIGHT1 };
                while !stop.load(Ordering::Relaxed) {
                    let socket = connect_from("127.0.0.2", port);
                    assert!(
                        Light::over(socket, credential, BOUND).is_err(),
                        "the handshake succeeded"
                    );
                }
            });
        }
        let good = scope.spawn(|| {
            let of_flood = |e: &saegis_tests::Event| {
                e.text("peer").starts_with("127.0.0.2")
                    && e.message().contains("too many concurrent calls")
            };
            gateway.log().wait_for(Mark::START, "handshake.refused", of_flood);
            let own = Request::retrieve("/cse/light1").from("Clight-AE1");
            for _ in 0..10 {
                light.ask(&own).unwrap().expect(200, 2000);
                let mut other = Light::connect(port, LIGHT2).unwrap();
                let nothing = Request::retrieve("/cse/nothing").from("Clight-AE2");
                other.ask(&nothing).unwrap().expect_refusal(404, 4004);
                other.close();
            }
        });
        let good = good.join();
        stop.store(true, Ordering::Relaxed);
        good.unwrap();
    });
}

/// Looping checks occupy all sandboxes that one credential may use, for longer than others wait.
#[test]
fn looping_checks_of_one_credential_do_not_delay_others() {
    let gateway = Setup::new()
        .module("faulty", "order = 1\ncapabilities = [\"log\"]\n")
        .with("modules", "concurrent-decisions = 8\ndeadline-milliseconds = 4000")
        .start();
    let port = gateway.port();
    let mut other = Light::connect(port, LIGHT2).unwrap();
    other.ask(&Request::create_ae("light2").from("Clight-AE2")).unwrap().expect(201, 2001);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..32 {
            let stop = &stop;
            scope.spawn(move || {
                let mut light = Light::connect(port, LIGHT1).unwrap();
                let looping = Request::retrieve("/cse/fault-loop").from("Clight-AE1");
                while !stop.load(Ordering::Relaxed) {
                    light.ask(&looping).unwrap().expect_refusal(500, 5000);
                }
            });
        }
        let good = scope.spawn(|| {
            let busy = |e: &saegis_tests::Event| e.message().contains("too many concurrent calls");
            gateway.log().wait_for(Mark::START, "module.failed", busy);
            for n in 0..10 {
                // The originators in a policy are checked each time.
                let rules = json!({"acr": [{"acor": ["Clight-AE2"], "acop": 63}]});
                let policy =
                    json!({"m2m:acp": {"rn": format!("acp{n}"), "pv": rules, "pvs": rules}});
                let create = Request::create("/cse/light2", 1, &policy).from("Clight-AE2");
                other.ask(&create).unwrap().expect(201, 2001);
            }
        });
        let good = good.join();
        stop.store(true, Ordering::Relaxed);
        good.unwrap();
    });
}
