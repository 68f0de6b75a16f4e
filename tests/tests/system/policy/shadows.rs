//! Shadow modules that want more than they may have: it costs them, and nobody else.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use saegis_tests::{Gateway, LIGHT1, LIGHT2, Light, Mark, Request, Setup, saegis};
use serde_json::Value;

/// A shadow that is asked before the checks that refuse.
const FIRST: &str = "mode = \"shadow\"\norder = 1\ncapabilities = [\"log\"]\n";

fn start() -> Gateway {
    Setup::new().module("faulty", FIRST).with_metrics().start()
}

/// A request that is refused, and so asked about each time, and at which the shadow computes until its
/// time is over.
fn at_which_it_computes() -> Request {
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

/// Computing time of the gateway so far.
fn computed(gateway: &Gateway) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{}/stat", gateway.id())).unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let fields: Vec<_> = fields.split_whitespace().collect();
    let ticks = |n: usize| fields[n].parse::<u64>().unwrap();
    // In hundredths of a second, on each Linux.
    Duration::from_millis(10 * (ticks(11) + ticks(12)))
}

#[test]
fn looping_shadow_is_limited_to_half_a_processor() {
    let gateway = start();
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    light.ask(&Request::create_ae("light1").from("Clight-AE1")).unwrap().expect(201, 2001);
    for _ in 0..1300 {
        light.ask(&at_which_it_computes()).unwrap().expect_refusal(403, 4106);
    }
    let dropped = shadow(&gateway)["dropped"].as_u64().unwrap();
    assert!(dropped > 0 && compared(&gateway) < 1300 - dropped, "{}", shadow(&gateway));
    let metrics = gateway.monitor("/metrics");
    let name = "saegis_shadow_decisions_total{module=\"faulty\",hook=\"impersonation-check\",\
                outcome=\"dropped\"}";
    assert!(metrics.value(name) >= dropped as f64, "{}", metrics.text);
    // It is told, and once in a minute.
    let told = gateway.log().wait("shadow.backlog");
    assert_eq!(told.text("modules"), "faulty");
    assert_eq!(gateway.log().all(Mark::START, "shadow.backlog", 1).len(), 1);

    // The rest takes the shadow a minute and more, of which it computes half.
    let (began, before, first) = (Instant::now(), computed(&gateway), compared(&gateway));
    sleep(Duration::from_secs(3));
    let (passed, used) = (began.elapsed(), computed(&gateway) - before);
    assert!(used < passed.mul_f64(0.7), "{used:?} of {passed:?}");
    assert!(compared(&gateway) > first, "it is asked no more");

    // Meanwhile nothing that is in force fails: neither requests nor handshakes.
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

/// Few decisions can be much memory: a module is told whom a content names.
#[test]
fn what_waits_for_a_shadow_is_bounded_in_bytes() {
    let gateway = start();
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    let content = serde_json::json!({ "m2m:cnt": { "cr": "x".repeat(20_000) } });
    for _ in 0..400 {
        let long = Request::create("/cse/fault-loop", 3, &content).from("Clight-AE2");
        light.ask(&long).unwrap().expect_refusal(403, 4106);
    }
    let told = gateway.log().wait("shadow.backlog");
    assert_eq!(told.text("modules"), "faulty");
    let dropped = shadow(&gateway)["dropped"].as_u64().unwrap();
    assert!((1..400).contains(&dropped), "{}", shadow(&gateway));
}
