//! Limits on the memory and the time of responses that a client does not read.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use saegis_tests::{BOUND, Gateway, LIGHT1, LIGHT2, Light, Request, Setup};

const OWN: &str = "Clight-AE1";
const OTHER: &str = "Clight-AE2";

/// Returns a gateway with 3.9 MB of content below light 1.
fn with_large_content(setup: Setup) -> Gateway {
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

fn large_retrieve() -> Request {
    Request::retrieve("/cse/light1/log?rcn=4").from(OWN)
}

/// Returns the resident memory of the gateway in MiB, without pages of files: how much of the program
/// is resident depends on other programs.
fn resident(gateway: &Gateway) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", gateway.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10
}

#[test]
fn unread_responses_are_bounded() {
    let setup = Setup::new().with("limits", "response-seconds = 2\nupstream-seconds = 4");
    let gateway = with_large_content(setup);
    let mut other = Light::connect(gateway.port(), LIGHT2).unwrap();
    other.ask(&Request::create_ae("light2").from(OTHER)).unwrap().expect(201, 2001);
    let connect = |_| Light::connect(gateway.port(), LIGHT1).unwrap();
    let mut crowd: Vec<_> = (0..63).map(connect).collect();
    // A response that is read completely does not count.
    assert!(crowd[0].ask(&large_retrieve()).unwrap().expect(200, 2000).text().len() > 3_900_000);
    let (idle, mark) = (resident(&gateway), gateway.log().mark());
    // More than the socket buffers of the kernel hold.
    for light in &mut crowd {
        light.send(&large_retrieve().bytes().repeat(6)).unwrap();
    }
    let (begun, mut most) = (Instant::now(), idle);
    while begun.elapsed() < Duration::from_secs(6) {
        most = most.max(resident(&gateway));
        let own = Request::retrieve("/cse/light2").from(OTHER);
        other.ask(&own).unwrap().expect(200, 2000);
        thread::sleep(Duration::from_millis(20));
    }
    // The account allows 16 MiB for the credential, and 128 KiB for each association. The rest is for
    // responses that are being built.
    assert!(most - idle <= 64, "{idle} MiB idle, {most} MiB at the most");
    let ended = gateway.log().all(mark, "association.ended", 2);
    assert!(ended.iter().all(|e| e.text("why") == "answer not read"), "{ended:?}");
    // Requests above the limit are refused.
    gateway.log().wait_for(mark, "request.refused", |e| e.number("rsc") == 4008);
    // The memory is released after the responses are dropped.
    drop(crowd);
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    let begun = Instant::now();
    while light.ask(&large_retrieve()).unwrap().rsc() != Some(2000) {
        assert!(begun.elapsed() < 3 * BOUND, "the memory is not released");
    }
}

/// A slow reader is not a stalled one.
#[test]
fn slowly_read_response_is_complete() {
    let gateway = with_large_content(Setup::new().with("limits", "response-seconds = 1"));
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    light.send(&large_retrieve().bytes()).unwrap();
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
fn limit_below_one_response_is_refused() {
    for line in
        ["answer-bytes = 1000000", "answer-bytes-per-credential = 1000000", "answer-seconds = 0"]
    {
        let ran = Setup::new().with("limits", line).run_until_exit();
        assert_ne!(ran.code, 0);
        let name = line.split(' ').next().unwrap();
        assert!(ran.err.contains(&format!("limits.{name}")), "{}", ran.err);
    }
}
