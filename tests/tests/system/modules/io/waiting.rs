//! Who waits holds up nobody else.

use std::thread;
use std::time::{Duration, Instant};

use saegis_tests::{Gateway, LIGHT1, LIGHT2, Light, Mark, Reply, Request, Upstream};

use super::http::answer;
use super::probe::{host, say, setup, tells};
use super::servers::Slow;

/// Calls that wait at the same time.
const MANY: usize = 200;

#[test]
fn decisions_proceed_while_io_calls_wait() {
    let server = Upstream::start(Reply::Pending);
    // Far fewer slots than calls that wait, and ordinary decisions have all of these.
    let gateway = setup(&[host(server.port())], "milliseconds = 9000")
        .with("modules", "concurrent-decisions = 2\nwaiting-milliseconds = 9000")
        .start();
    let port = gateway.port();
    let words = format!("get|http://127.0.0.1:{}/", server.port());
    thread::scope(|scope| {
        for _ in 0..MANY {
            scope.spawn(|| say(port, &words));
        }
        server.wait(MANY);
        let begin = Instant::now();
        let mut light = Light::connect(port, LIGHT1).unwrap();
        for n in 0..50 {
            let ask = Request::retrieve(&format!("/cse/nothing{n}")).from("Clight-AE1");
            light.ask(&ask).unwrap().expect_refusal(404, 4004);
        }
        Light::connect(port, LIGHT2).unwrap().close();
        assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
        server.reply_with(answer(200, "hello"));
    });
    let refused = gateway.log().all(Mark::START, "handshake.refused", MANY);
    let answered = refused.iter().filter(|e| e.message().contains("status 200, 5 bytes")).count();
    assert_eq!(answered, MANY, "{:?}", refused.first());
}

#[test]
fn calls_that_wait_are_bounded_in_number() {
    let server = Upstream::start(Reply::Pending);
    let gateway = setup(&[host(server.port())], "milliseconds = 9000")
        // Half of them are for handshakes, and half of those for one address: two.
        .with("modules", "waiting-decisions = 8\nwaiting-milliseconds = 9000")
        .start();
    let port = gateway.port();
    let words = format!("get|http://127.0.0.1:{}/", server.port());
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| say(port, &words));
        }
        server.wait(2);
        // It is another module's, but the probe has to be asked first.
        assert!(Light::connect(port, LIGHT1).is_err());
        let busy = |e: &saegis_tests::Event| e.message().contains("too many calls are under way");
        gateway.log().wait_for(Mark::START, "handshake.refused", busy);
        server.reply_with(answer(200, ""));
    });
    Light::connect(port, LIGHT1).unwrap().close();
}

#[test]
fn the_time_to_wait_is_no_longer_than_a_handshake() {
    let too_long = setup(&[host(1)], "").with("modules", "waiting-milliseconds = 10001");
    let refused = too_long.run_until_exit().expect(2);
    assert!(refused.err.contains("waiting-milliseconds: must be from 1 to 10000"), "{refused:?}");
    // If nothing is said, it is as long as that may be.
    let server = Upstream::start(Reply::Pending);
    let gateway = setup(&[host(server.port())], "milliseconds = 60000")
        .with("limits", "handshake-seconds = 2")
        .start();
    let begin = Instant::now();
    say(gateway.port(), &format!("get|http://127.0.0.1:{}/", server.port()));
    assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
}

/// Handshakes at the same time whose look-up waits 100 ms. Most of what they take is for a thousand
/// clients, on the same processors; what the look-ups take by themselves `host/policy/tests/waiting.rs`
/// tells.
#[test]
#[ignore = "a measurement; cargo xtask load runs it"]
fn load_a_thousand_lookups_that_wait() {
    const TIMES: usize = 1000;
    let slow = Slow::start(Duration::from_millis(100));
    let gateway = setup(&[host(slow.port())], "milliseconds = 9000")
        // Half of them are for handshakes, and half of those for one address.
        .with("modules", "waiting-milliseconds = 9000\nwaiting-decisions = 4096")
        .start();
    let words = format!("get|http://127.0.0.1:{}/", slow.port());
    tells(&gateway, &words, "status 200");
    let (one, _) = took(&gateway, &words, 1);
    let (all, longest) = took(&gateway, &words, TIMES);
    println!(
        "1 look-up that waits 100 ms: {one:.0?}; {TIMES} at the same time: {all:.0?}, from the first \
         ClientHello to the last refusal, {longest:.0?} the longest; {} were at the server at a time",
        slow.most()
    );
    println!("resident memory: {} MiB", resident(&gateway));
    let answered = gateway.log().all(Mark::START, "handshake.refused", 100);
    assert!(answered.iter().all(|e| e.message().contains("status 200")), "{:?}", answered.first());
}

/// How long it takes until so many look-ups are over that begin at the same time, and the longest.
fn took(gateway: &Gateway, words: &str, times: usize) -> (Duration, Duration) {
    let port = gateway.port();
    let begin = Instant::now();
    let longest = thread::scope(|scope| {
        let calls: Vec<_> = (0..times)
            .map(|_| {
                let small = thread::Builder::new().stack_size(256 << 10);
                let call = move || {
                    let begin = Instant::now();
                    say(port, words);
                    begin.elapsed()
                };
                small.spawn_scoped(scope, call).unwrap()
            })
            .collect();
        calls.into_iter().map(|call| call.join().unwrap()).max()
    });
    (begin.elapsed(), longest.unwrap_or_default())
}

/// Resident memory of the gateway, in MiB.
fn resident(gateway: &Gateway) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}
