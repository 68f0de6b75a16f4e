//! Start and end of a gateway: orderly shutdown, durability, and restart.

use std::fs::File;
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use saegis_tests::{
    Credential, Gateway, LIGHT1, LIGHT2, Mark, Offer, Reply, Request, Setup, Tool, Upstream,
    eventually, with_each_client,
};

with_each_client!(
    signal_ends_idle_associations,
    pending_request_is_finished_at_shutdown,
    confirmed_resource_survives_power_cut,
    idle_association_times_out,
);

fn own() -> Request {
    Request::retrieve("/cse/light1").from("Clight-AE1")
}

/// Returns whether the listener is closed.
fn listener_is_closed(gateway: &Gateway) -> bool {
    TcpStream::connect(("127.0.0.1", gateway.port())).is_err()
}

fn signal_ends_idle_associations(tool: Tool) {
    for signal in ["TERM", "INT"] {
        let mut gateway = Setup::new().start();
        let mut light = tool.connect(gateway.port(), LIGHT1);
        light.ask(&Request::create_ae("light1").from("Clight-AE1")).expect(201, 2001);
        let mut silent = tool.connect(gateway.port(), LIGHT2);
        let start = Instant::now();
        gateway.signal(signal);
        assert_eq!(light.ended().replace("- Peer has closed the GnuTLS connection\n", ""), "");
        silent.ended();
        assert_eq!(gateway.wait().unwrap().code(), Some(0));
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        for said in [light.said(), silent.said()] {
            // The gateway sends close_notify, so that the end is not taken for a truncation.
            assert!(!said.contains("unexpected eof") && !said.contains("non-properly"), "{said}");
        }
        gateway.log().wait("gateway.stopped");
        let ended = gateway.log().all(Mark::START, "association.ended", 2);
        assert_eq!(ended.len(), 2);
        assert!(ended.iter().all(|e| e.text("why") == "gateway stopping"), "{ended:?}");
    }
}

fn pending_request_is_finished_at_shutdown(tool: Tool) {
    let upstream = Upstream::start(Reply::Pending);
    let mut gateway = Setup::new().upstream(upstream.port()).start();
    let mut light = tool.connect(gateway.port(), LIGHT1);
    let request = own();
    light.send(&request.bytes());
    upstream.wait(1);
    gateway.signal("TERM");
    assert_eq!(gateway.log().wait("gateway.stopping").number("associations"), 1);
    assert!(listener_is_closed(&gateway) && gateway.runs());
    upstream.reply_with(Reply::answer(200, 2000, "{\"m2m:ae\":{}}"));
    let response = light.read().expect(200, 2000);
    assert_eq!(response.header("x-m2m-ri"), Some(request.id()));
    light.ended();
    assert_eq!(gateway.wait().unwrap().code(), Some(0));
    assert_eq!(gateway.log().wait("gateway.stopped").message(), "stopped");
}

#[test]
fn shutdown_is_limited_by_drain_timeout() {
    let upstream = Upstream::start(Reply::Pending);
    let setup = Setup::new().upstream(upstream.port()).with("limits", "drain-seconds = 1");
    let mut gateway = setup.start();
    let mut light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    light.send(&own().bytes());
    upstream.wait(1);
    let start = Instant::now();
    gateway.signal("TERM");
    assert_eq!(gateway.wait().unwrap().code(), Some(0));
    assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert!(gateway.log().wait("gateway.stopped").message().contains("cut off"));
}

#[test]
fn second_signal_ends_gateway_at_once() {
    let upstream = Upstream::start(Reply::Pending);
    let setup = Setup::new().upstream(upstream.port()).with("limits", "drain-seconds = 3600");
    let mut gateway = setup.with("limits", "upstream-seconds = 3600").start();
    let mut light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    light.send(&own().bytes());
    upstream.wait(1);
    gateway.signal("TERM");
    gateway.log().wait("gateway.stopping");
    assert!(gateway.runs());
    let start = Instant::now();
    gateway.signal("TERM");
    assert_eq!(gateway.wait().unwrap().code(), Some(0));
    assert!(start.elapsed() < saegis_tests::BOUND, "{:?}", start.elapsed());
    assert!(gateway.log().wait("gateway.stopped").message().contains("second signal"));
    light.ended();
}

fn confirmed_resource_survives_power_cut(tool: Tool) {
    let gateway = Setup::new().start();
    let mut light = tool.connect(gateway.port(), LIGHT1);
    light.ask(&Request::create_ae("light1").from("Clight-AE1")).expect(201, 2001);
    let container = Request::create_container("/cse/light1", "lamp").from("Clight-AE1");
    light.ask(&container).expect(201, 2001);
    for value in ["on", "off"] {
        let instance = Request::create_instance("/cse/light1/lamp", value).from("Clight-AE1");
        light.ask(&instance).expect(201, 2001);
    }
    let gateway = gateway.kill_and_restart();
    light.ended();
    let mut light = tool.connect(gateway.port(), LIGHT1);
    let latest = Request::retrieve("/cse/light1/lamp/la").from("Clight-AE1");
    let latest = light.ask(&latest).expect(200, 2000);
    assert_eq!(latest.json()["m2m:cin"]["con"], "off");
    light.ask(&Request::create_ae("light1").from("Clight-AE1")).expect_refusal(403, 4117);
    let lamp = Request::retrieve("/cse/light1/lamp").from("Clight-AE1");
    assert_eq!(light.ask(&lamp).expect(200, 2000).json()["m2m:cnt"]["cni"], 2);
}

#[test]
fn store_cannot_be_opened_twice() {
    let gateway = Setup::new().start();
    let folder = gateway.path("");
    let ran = saegis_tests::saegis(&folder, &["run"]).expect(2);
    let fault = ran.err.lines().find(|l| l.starts_with("error: ")).unwrap();
    assert!(fault.contains("already open"), "{fault}");
    Tool::OpenSsl.connect(gateway.port(), LIGHT1);
}

fn idle_association_times_out(tool: Tool) {
    let gateway = Setup::new().with("limits", "idle-seconds = 1").start();
    let mut light = tool.connect(gateway.port(), LIGHT1);
    light.ask(&Request::create_ae("light1").from("Clight-AE1")).expect(201, 2001);
    let mut half = tool.connect(gateway.port(), LIGHT2);
    half.send(b"GET /cse/light1 HTTP/1.1\r\nX-M2M-Origin: ");
    light.ended();
    half.ended();
    let log = gateway.log();
    for association in [1, 2] {
        let ended = log
            .wait_for(Mark::START, "association.ended", |e| e.number("association") == association);
        assert_eq!(ended.text("why"), "idle");
    }
}

#[test]
fn connections_over_limit_wait() {
    let gateway = Setup::new().with("limits", "connections = 1").start();
    let light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    let waiting = std::thread::spawn({
        let port = gateway.port();
        move || Tool::OpenSsl.connect(port, LIGHT2)
    });
    // The second connection is accepted after the end of the first, whichever way they are
    // scheduled.
    light.close();
    let mut second = waiting.join().unwrap();
    let request = Request::create_ae("light2").from("Clight-AE2");
    second.ask(&request).expect(201, 2001);
    let text = gateway.log().text();
    let at = |event: &str| text.match_indices(event).map(|(at, _)| at).collect::<Vec<_>>();
    let (established, ended) = (at("association.established"), at("association.ended"));
    assert!(established[1] > ended[0], "{text}");
}

/// `host/gateway/src/listener/peer_limits.rs` tests that other hosts are not counted.
#[test]
fn concurrent_handshakes_per_host_are_limited() {
    use std::io::Read as _;
    let gateway = Setup::new().with("limits", "handshakes-per-peer = 2").on_one_processor().start();
    let mut light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    // The client completes its handshake before the gateway does.
    gateway.log().wait("association.established");
    let stall = || TcpStream::connect(("127.0.0.1", gateway.port())).unwrap();
    let stalled = [stall(), stall()];
    let mut third = stall();
    assert_eq!(third.read(&mut [0; 1]).unwrap_or(0), 0, "the connection is closed");
    let refused = gateway.handshake_refused(Mark::START);
    assert!(
        refused.message().contains("the maximum number of concurrent handshakes"),
        "{refused:?}"
    );
    let nothing = Request::retrieve("/cse/nothing").from("Clight-AE1");
    light.ask(&nothing).expect_refusal(404, 4004);
    let mark = gateway.log().mark();
    drop(stalled);
    gateway.log().all(mark, "handshake.refused", 2);
    Tool::OpenSsl.connect(gateway.port(), LIGHT2).close();
}

/// Uses a gateway that cannot write its log, because the disk is full or the reader is gone.
fn use_without_log(gateway: &mut Gateway) {
    for _ in 0..2 {
        let mut light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
        let nothing = Request::retrieve("/cse/nothing").from("Clight-AE1");
        light.ask(&nothing).expect_refusal(404, 4004);
        let other = Request::retrieve("/cse/nothing").from("Clight-AE2");
        light.ask(&other).expect_refusal(403, 4106);
        light.close();
    }
    // Policy changes still take effect.
    let third = Credential { identity: "third@in.provider.com", key: "0011223344556677" };
    let table = format!("{}Cthird,{},{}\n", gateway.table(), third.key, third.identity);
    gateway.replace("policies/psk-lookup-table.csv", table);
    // There is no log to wait for.
    eventually(|| Tool::OpenSsl.try_connect(gateway.port(), third, Offer::MANDATED));
    gateway.signal("TERM");
    assert_eq!(gateway.wait().unwrap().code(), Some(0));
}

#[test]
fn gateway_runs_with_unwritable_log() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    use_without_log(&mut Setup::new().start_with_log_in(full));
}

#[test]
fn gateway_runs_with_unread_log() {
    let setup = Setup::new();
    let pipe = setup.path("log");
    let made = Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    // Opening the pipe requires both ends. The reader closes afterwards.
    let reader = std::thread::spawn({
        let pipe = pipe.clone();
        move || File::open(pipe).unwrap()
    });
    let writer = File::options().write(true).open(&pipe).unwrap();
    drop(reader.join().unwrap());
    use_without_log(&mut setup.start_with_log_in(writer));
}
