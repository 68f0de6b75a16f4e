//! A peer that does not read its answers takes a bounded part of the gateway's memory, for a bounded time.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use saegis_tests::{BOUND, Gateway, LIGHT1, LIGHT2, Light, Request, Setup};

const OWN: &str = "Clight-AE1";
const OTHER: &str = "Clight-AE2";

/// A gateway at which light 1 has 3.9 MB below it.
fn with_much(setup: Setup) -> Gateway {
    let gateway = setup.start();
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    light.ask(&Request::create_ae("light1").from(OWN)).unwrap().expect(201, 2001);
    light
        .ask(&Request::create_container("/cse/light1", "log").from(OWN))
        .unwrap()
        .expect(201, 2001);
    let text = "x".repeat(64_000);
    for _ in 0..61 {
        let instance = Request::create_instance("/cse/light1/log", &text).from(OWN);
        light.ask(&instance).unwrap().expect(201, 2001);
    }
    gateway
}

fn much() -> Request {
    Request::retrieve("/cse/light1/log?rcn=4").from(OWN)
}

/// What the gateway has in memory, in MiB.
fn resident(gateway: &Gateway) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", gateway.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10
}

#[test]
fn unread_responses_are_bounded() {
    let setup = Setup::new().with("limits", "answer-seconds = 2\nupstream-seconds = 4");
    let gateway = with_much(setup);
    let mut other = Light::connect(gateway.port(), LIGHT2).unwrap();
    other.ask(&Request::create_ae("light2").from(OTHER)).unwrap().expect(201, 2001);
    let connect = |_| Light::connect(gateway.port(), LIGHT1).unwrap();
    let mut crowd: Vec<_> = (0..63).map(connect).collect();
    // One that is read whole: what it takes is not of those that are not.
    assert!(crowd[0].ask(&much()).unwrap().expect(200, 2000).text().len() > 3_900_000);
    let (idle, mark) = (resident(&gateway), gateway.log().mark());
    // More than the kernel's own buffers take of an answer.
    for light in &mut crowd {
        light.send(&much().bytes().repeat(6)).unwrap();
    }
    let (begun, mut most) = (Instant::now(), idle);
    while begun.elapsed() < Duration::from_secs(6) {
        most = most.max(resident(&gateway));
        let own = Request::retrieve("/cse/light2").from(OTHER);
        other.ask(&own).unwrap().expect(200, 2000);
        thread::sleep(Duration::from_millis(20));
    }
    assert!(most - idle <= 64, "{idle} MiB idle, {most} MiB at the most");
    let ended = gateway.log().all(mark, "association.ended", 2);
    assert!(ended.iter().all(|e| e.text("why") == "answer not read"), "{ended:?}");
    // Some had no room, and are told so.
    gateway.log().wait_for(mark, "request.refused", |e| e.number("rsc") == 4008);
    // Their room comes back, when what they have asked for has found nobody.
    drop(crowd);
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    let begun = Instant::now();
    while light.ask(&much()).unwrap().rsc() != Some(2000) {
        assert!(begun.elapsed() < 3 * BOUND, "the room does not come back");
    }
}

/// Slow is not stuck.
#[test]
fn an_answer_that_is_read_slowly_comes_whole() {
    let gateway = with_much(Setup::new().with("limits", "answer-seconds = 1"));
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    light.send(&much().bytes()).unwrap();
    let (mut read, mut chunk) = (0, vec![0; 16 << 10]);
    let begun = Instant::now();
    while read < 3_900_000 {
        let some = light.read_some(&mut chunk).unwrap();
        assert_ne!(some, 0, "it ends after {read} bytes");
        read += some;
        if read % (512 << 10) < some {
            thread::sleep(Duration::from_millis(400));
        }
    }
    assert!(begun.elapsed() > Duration::from_secs(2));
}

#[test]
fn room_for_less_than_one_answer_is_refused() {
    for line in
        ["answer-bytes = 1000000", "answer-bytes-per-credential = 1000000", "answer-seconds = 0"]
    {
        let ran = Setup::new().with("limits", line).run_until_exit();
        assert_ne!(ran.code, 0);
        let name = line.split(' ').next().unwrap();
        assert!(ran.err.contains(&format!("limits.{name}")), "{}", ran.err);
    }
}
