//! Calls that wait for I/O do not delay other decisions.

use std::thread;
use std::time::{Duration, Instant};

use saegis_tests::{Gateway, LIGHT1, LIGHT2, Light, Mark, Reply, Request, Upstream};

use super::http::answer;
use super::probe::{assert_outcome, host, send_command, setup};
use super::servers::Slow;

/// Number of concurrent waiting calls.
const WAITING_CALLS: usize = 200;

#[test]
fn decisions_proceed_while_io_calls_wait() {
    let server = Upstream::start(Reply::Pending);
    // There are far fewer slots than waiting calls, and all of them are for ordinary decisions.
    let gateway = setup(&[host(server.port())], "milliseconds = 9000")
        .with("modules", "concurrent-decisions = 2\nwaiting-milliseconds = 9000")
        .start();
    let port = gateway.port();
    let words = format!("get|http://127.0.0.1:{}/", server.port());
    thread::scope(|scope| {
        for _ in 0..WAITING_CALLS {
            scope.spawn(|| send_command(port, &words));
        }
        server.wait(WAITING_CALLS);
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
    let refused = gateway.log().all(Mark::START, "handshake.refused", WAITING_CALLS);
    let answered = refused.iter().filter(|e| e.message().contains("status 200, 5 bytes")).count();
    assert_eq!(answered, WAITING_CALLS, "{:?}", refused.first());
}

#[test]
fn waiting_calls_are_limited() {
    let server = Upstream::start(Reply::Pending);
    let gateway = setup(&[host(server.port())], "milliseconds = 9000")
        // Half of them are for handshakes, and half of those for one address: two.
        .with("modules", "waiting-decisions = 8\nwaiting-milliseconds = 9000")
        .start();
    let port = gateway.port();
    let words = format!("get|http://127.0.0.1:{}/", server.port());
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| send_command(port, &words));
        }
        server.wait(2);
        // Another module decides about this identity, but the probe is called first.
        assert!(Light::connect(port, LIGHT1).is_err());
        let busy = |e: &saegis_tests::Event| e.message().contains("too many concurrent calls");
        gateway.log().wait_for(Mark::START, "handshake.refused", busy);
        server.reply_with(answer(200, ""));
    });
    Light::connect(port, LIGHT1).unwrap().close();
}

#[test]
fn waiting_timeout_is_limited_by_handshake_timeout() {
    let too_long = setup(&[host(1)], "").with("modules", "waiting-milliseconds = 10001");
    let refused = too_long.run_until_exit().expect(2);
    assert!(refused.err.contains("waiting-milliseconds: must be from 1 to 10000"), "{refused:?}");
    // The default is the maximum.
    let server = Upstream::start(Reply::Pending);
    let gateway = setup(&[host(server.port())], "milliseconds = 60000")
        .with("limits", "handshake-seconds = 2")
        .start();
    let begin = Instant::now();
    send_command(gateway.port(), &format!("get|http://127.0.0.1:{}/", server.port()));
    assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
}

/// Concurrent handshakes with a look-up that waits 100 ms. Most of the time goes to a thousand
/// clients on the same processors; `host/policy/tests/waiting.rs` measures the look-ups alone.
#[test]
#[ignore = "a measurement; cargo xtask load runs it"]
fn load_of_thousand_waiting_lookups() {
    const LOOKUPS: usize = 1000;
    let slow = Slow::start(Duration::from_millis(100));
    let gateway = setup(&[host(slow.port())], "milliseconds = 9000")
        // Half of them are for handshakes, and half of those for one address.
        .with("modules", "waiting-milliseconds = 9000\nwaiting-decisions = 4096")
        .start();
    let words = format!("get|http://127.0.0.1:{}/", slow.port());
    assert_outcome(&gateway, &words, "status 200");
    let (one, _) = measure_lookups(&gateway, &words, 1);
    let (all, longest) = measure_lookups(&gateway, &words, LOOKUPS);
    println!(
        "1 look-up that waits 100 ms: {one:.0?}; {LOOKUPS} at the same time: {all:.0?}, from the first \
         ClientHello to the last refusal, {longest:.0?} the longest; {} were at the server at a time",
        slow.most()
    );
    println!("resident memory: {} MiB", resident(&gateway));
    let answered = gateway.log().all(Mark::START, "handshake.refused", 100);
    assert!(answered.iter().all(|e| e.message().contains("status 200")), "{:?}", answered.first());
}

/// Returns the time for this many concurrent look-ups, and the longest of them.
fn measure_lookups(gateway: &Gateway, words: &str, times: usize) -> (Duration, Duration) {
    let port = gateway.port();
    let begin = Instant::now();
    let longest = thread::scope(|scope| {
        let calls: Vec<_> = (0..times)
            .map(|_| {
                let small = thread::Builder::new().stack_size(256 << 10);
                let call = move || {
                    let begin = Instant::now();
                    send_command(port, words);
                    begin.elapsed()
                };
                small.spawn_scoped(scope, call).unwrap()
            })
            .collect();
        calls.into_iter().map(|call| call.join().unwrap()).max()
    });
    (begin.elapsed(), longest.unwrap_or_default())
}

/// Returns the resident memory of the gateway in MiB.
fn resident(gateway: &Gateway) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}
