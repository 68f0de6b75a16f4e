//! Shadow modules that exceed their resources. The limits affect only the shadow.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use saegis_tests::{Gateway, LIGHT1, LIGHT2, Light, Mark, Request, Setup, saegis};
use serde_json::Value;

/// A shadow that is called before the denying checks.
const FIRST: &str = "mode = \"shadow\"\norder = 1\ncapabilities = [\"log\"]\n";

fn start() -> Gateway {
    Setup::new().module("faulty", FIRST).with_metrics().start()
}

/// Returns a request that is always denied, so its decision is not cached, and on which the shadow
/// computes until its timeout.
fn looping_request() -> Request {
    Request::retrieve("/cse/fault-loop").from("Clight-AE2")
}

fn shadow(gateway: &Gateway) -> Value {
    let all = saegis(&gateway.path(""), &["modules", "--json"]).expect(0).json();
    assert_eq!(
        (&all["generation"], &all["modules"][0]["name"]),
        (&1.into(), &"originator-check".into())
    );
    all["shadows"][0].clone()
}

fn compared(gateway: &Gateway) -> u64 {
    let shadow = shadow(gateway);
    shadow["agreed"].as_u64().unwrap() + shadow["disagreed"].as_u64().unwrap()
}

/// Returns the CPU time of the gateway so far.
fn cpu_time(gateway: &Gateway) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{}/stat", gateway.id())).unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let fields: Vec<_> = fields.split_whitespace().collect();
    let ticks = |n: usize| fields[n].parse::<u64>().unwrap();
    // Ticks are hundredths of a second on Linux.
    Duration::from_millis(10 * (ticks(11) + ticks(12)))
}

#[test]
fn looping_shadow_is_limited_to_half_a_processor() {
    let gateway = start();
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    light.ask(&Request::create_ae("light1").from("Clight-AE1")).unwrap().expect(201, 2001);
    for _ in 0..1300 {
        light.ask(&looping_request()).unwrap().expect_refusal(403, 4106);
    }
    let dropped = shadow(&gateway)["dropped"].as_u64().unwrap();
    assert!(dropped > 0 && compared(&gateway) < 1300 - dropped, "{}", shadow(&gateway));
    let metrics = gateway.monitor("/metrics");
    let name = "saegis_shadow_decisions_total{module=\"faulty\",hook=\"impersonation-check\",\
                outcome=\"dropped\"}";
    assert!(metrics.value(name) >= dropped as f64, "{}", metrics.text);
    // The backlog is logged once a minute.
    let logged = gateway.log().wait("shadow.backlog");
    assert_eq!(logged.text("modules"), "faulty");
    assert_eq!(gateway.log().all(Mark::START, "shadow.backlog", 1).len(), 1);

    // The backlog takes the shadow more than a minute, of which it computes half.
    let (began, before, first) = (Instant::now(), cpu_time(&gateway), compared(&gateway));
    sleep(Duration::from_secs(3));
    let (passed, used) = (began.elapsed(), cpu_time(&gateway) - before);
    assert!(used < passed.mul_f64(0.7), "{used:?} of {passed:?}");
    assert!(compared(&gateway) > first, "it is asked no more");

    // Meanwhile no request or handshake of the modules in force fails.
    for _ in 0..50 {
        let own = Request::retrieve("/cse/light1").from("Clight-AE1");
        light.ask(&own).unwrap().expect(200, 2000);
        let mut other = Light::connect(gateway.port(), LIGHT2).unwrap();
        let nothing = Request::retrieve("/cse/nothing").from("Clight-AE2");
        other.ask(&nothing).unwrap().expect_refusal(404, 4004);
        other.close();
    }
    let metrics = gateway.monitor("/metrics");
    assert!(!metrics.text.contains("saegis_sandbox_faults_total{"), "{}", metrics.text);
    assert!(gateway.log().all(Mark::START, "module.failed", 0).is_empty());
}

/// A few decisions can take much memory, because a module receives the entities in the content.
#[test]
fn shadow_backlog_is_limited_in_bytes() {
    let gateway = start();
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    let content = serde_json::json!({ "m2m:cnt": { "cr": "x".repeat(20_000) } });
    for _ in 0..400 {
        let long = Request::create("/cse/fault-loop", 3, &content).from("Clight-AE2");
        light.ask(&long).unwrap().expect_refusal(403, 4106);
    }
    let logged = gateway.log().wait("shadow.backlog");
    assert_eq!(logged.text("modules"), "faulty");
    let dropped = shadow(&gateway)["dropped"].as_u64().unwrap();
    assert!((1..400).contains(&dropped), "{}", shadow(&gateway));
}
