//! Limits that keep one host, one device or a lack of resources from exhausting the gateway.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use saegis_tests::{
    BOUND, Credential, Gateway, LIGHT1, LIGHT2, Light, Mark, Request, Setup, Tool, wait_until,
};

/// Returns whether a handshake from another loopback address succeeds.
fn from_another_host(gateway: &Gateway, credential: Credential<'_>) -> bool {
    let offers = ["-bind", "127.0.0.2:0", "-tls1_2", "-cipher", "PSK-AES128-CBC-SHA256"];
    let offers = [&offers[..], &["-nocommands"]].concat();
    match Tool::OpenSsl.try_with(gateway.port(), Some(credential), &offers) {
        Ok(client) => {
            client.close();
            true
        }
        Err(_) => false,
    }
}

#[test]
fn guessing_host_is_barred_alone() {
    let gateway = Setup::new().with("limits", "failed-handshakes-per-minute = 5").with_metrics();
    let gateway = gateway.start();
    let mut light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    assert!(from_another_host(&gateway, LIGHT2), "it is let in as long as it behaves");
    for n in 0..5u8 {
        let key = format!("{n:02x}112233445566778899aabbccddeeff");
        assert!(!from_another_host(&gateway, Credential { key: &key, ..LIGHT2 }));
    }
    // The client learns of its refusal before the line is logged.
    gateway.log().all(Mark::START, "handshake.refused", 5);
    // The right key is refused as well, because it may have been guessed.
    let mark = gateway.log().mark();
    assert!(!from_another_host(&gateway, LIGHT2));
    let refused = gateway.handshake_refused(mark);
    assert_eq!(refused.text("cause"), "too-many-failed");
    assert!(refused.text("peer").starts_with("127.0.0.2:"), "{refused:?}");
    let nothing = Request::retrieve("/cse/nothing").from("Clight-AE1");
    light.ask(&nothing).expect_refusal(404, 4004);
    Tool::OpenSsl.connect(gateway.port(), LIGHT2).close();
    let metrics = gateway.monitor("/metrics");
    assert_eq!(metrics.value("saegis_handshakes_total{outcome=\"wrong-key\"}"), 5.0);
    assert_eq!(metrics.value("saegis_handshakes_total{outcome=\"too-many-failed\"}"), 1.0);
}

/// The gateway counts each refusal, and logs a few of them and their sum.
#[test]
fn barred_host_does_not_fill_log() {
    use std::io::Read as _;
    let gateway = Setup::new().with("limits", "failed-handshakes-per-minute = 1").with_metrics();
    let gateway = gateway.start();
    let garbage = TcpStream::connect(("127.0.0.1", gateway.port())).unwrap();
    drop(garbage);
    gateway.handshake_refused(Mark::START);
    let mark = gateway.log().mark();
    for _ in 0..200 {
        let mut socket = TcpStream::connect(("127.0.0.1", gateway.port())).unwrap();
        assert_eq!(socket.read(&mut [0; 1]).unwrap_or(0), 0, "it is closed");
    }
    let metrics = gateway.monitor("/metrics");
    let refused = metrics.value("saegis_handshakes_total{outcome=\"too-many-failed\"}");
    // The limiter admits one attempt a minute, which a slow machine may see.
    assert!(refused >= 190.0, "{refused}");
    let logged = gateway.log().all(mark, "handshake.refused", 1).len();
    assert!(logged <= 25, "{logged} lines for {refused} refusals");
    let is_sum = |event: &saegis_tests::Event| event.text("cause") == "too-many-failed";
    let sum = gateway.log().wait_for(mark, "audit.repeated", is_sum);
    assert_eq!(
        (sum.text("of"), sum.text("peer")),
        ("handshake.refused".into(), "127.0.0.1".into())
    );
    assert!(sum.number("count") > 0);
}

#[test]
fn associations_per_credential_are_limited() {
    let gateway = Setup::new().with("limits", "associations-per-credential = 2").start();
    let mut first = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    let mut second = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    let mut other = Tool::OpenSsl.connect(gateway.port(), LIGHT2);
    let mut third = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    first.ended();
    let superseded = gateway.log().wait("association.superseded");
    assert_eq!(superseded.number("association"), 1);
    let nothing = |from: &str| Request::retrieve("/cse/nothing").from(from);
    for light in [&mut second, &mut third] {
        light.ask(&nothing("Clight-AE1")).expect_refusal(404, 4004);
    }
    other.ask(&nothing("Clight-AE2")).expect_refusal(404, 4004);
    // An ended association releases its slot.
    second.close();
    gateway.log().all(Mark::START, "association.ended", 2);
    let mut fourth = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    for light in [&mut third, &mut fourth] {
        light.ask(&nothing("Clight-AE1")).expect_refusal(404, 4004);
    }
    assert_eq!(gateway.log().all(Mark::START, "association.superseded", 1).len(), 1);
}

/// With 96 descriptors, the gateway serves its associations and delays new connections.
#[test]
fn associations_are_served_without_free_descriptors() {
    let gateway = Setup::new().started_through(&["prlimit", "--nofile=96:96"]).start();
    gateway.log().wait("gateway.descriptors-low");
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    let ae = Request::create_ae("light1").from("Clight-AE1");
    light.ask(&ae).unwrap().expect(201, 2001);
    let connect = || TcpStream::connect(("127.0.0.1", gateway.port())).unwrap();
    let crowd: Vec<_> = (0..120).map(|_| connect()).collect();
    gateway.log().wait("accept.failed");
    for _ in 0..50 {
        let own = Request::retrieve("/cse/light1").from("Clight-AE1");
        light.ask(&own).unwrap().expect(200, 2000);
    }
    // Policy changes are loaded as soon as descriptors are free.
    let table = gateway.table();
    let row = "Cthird,00112233445566778899aabbccddeeff,third@in.provider.com\n";
    let mark = gateway.log().mark();
    gateway.replace("policies/psk-lookup-table.csv", format!("{table}{row}"));
    drop(crowd);
    gateway.log().wait_after(mark, "generation.in-force");
    let third =
        Credential { identity: "third@in.provider.com", key: "00112233445566778899aabbccddeeff" };
    Tool::OpenSsl.connect(gateway.port(), third).close();
    let own = Request::retrieve("/cse/light1").from("Clight-AE1");
    light.ask(&own).unwrap().expect(200, 2000);
}

/// Sixty hosts that send three bytes a connection and reconnect do not delay other handshakes.
#[test]
fn stalling_hosts_do_not_delay_other_handshakes() {
    let gateway = Setup::new()
        .with("limits", "connections = 1000")
        // Otherwise the hosts are soon barred for failed handshakes.
        .with("limits", "failed-handshakes-per-minute = 1000000")
        .with_metrics()
        .start();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    for host in 2..62 {
        for _ in 0..30 {
            runtime.spawn(stall_handshakes(host, gateway.port()));
        }
    }
    // Wait until the hosts use all slots and displace each other.
    let displaced = "saegis_handshakes_total{outcome=\"displaced\"}";
    wait_until("they fill the places", || gateway.monitor("/metrics").value(displaced) >= 100.0);
    let mut longest = Duration::ZERO;
    for _ in 0..20 {
        let start = Instant::now();
        let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
        longest = longest.max(start.elapsed());
        let nothing = Request::retrieve("/cse/nothing").from("Clight-AE1");
        light.ask(&nothing).unwrap().expect_refusal(404, 4004);
        light.close();
    }
    runtime.shutdown_background();
    println!("the longest good handshake took {longest:.0?}");
    assert!(longest < Duration::from_secs(2), "{longest:?}");
}

/// A displaced handshake does not count as failed.
#[test]
fn displaced_handshake_does_not_bar_host() {
    let limits = "handshakes = 4\nhandshakes-per-peer = 4\nfailed-handshakes-per-minute = 3";
    let gateway = Setup::new().with("limits", limits).on_one_processor().start();
    let port = gateway.port();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut held = Vec::new();
    let other = || {
        runtime.block_on(async {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind(([127, 0, 0, 2], 0).into()).unwrap();
            socket.connect(([127, 0, 0, 1], port).into()).await.unwrap()
        })
    };
    (0..4).for_each(|_| held.push(other()));
    for _ in 0..6 {
        let mark = gateway.log().mark();
        Light::connect(port, LIGHT1).unwrap().close();
        // The slot of the handshake is free by then.
        gateway.log().wait_after(mark, "association.established");
        let refused = gateway.handshake_refused(mark);
        assert_eq!(refused.text("cause"), "displaced");
        assert!(refused.text("peer").starts_with("127.0.0.2:"), "{refused:?}");
        held.push(other());
    }
    // A client that disconnects counts as failed and frees a slot.
    let mark = gateway.log().mark();
    drop(held.pop());
    assert_eq!(gateway.handshake_refused(mark).text("cause"), "connection");
    let socket = other().into_std().unwrap();
    socket.set_nonblocking(false).unwrap();
    Light::over(socket, LIGHT2, BOUND).unwrap().close();
}

/// Starts handshakes from another loopback address, one after the other, without completing them.
async fn stall_handshakes(host: u8, port: u16) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    loop {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, host], 0).into()).unwrap();
        if let Ok(mut stream) = socket.connect(([127, 0, 0, 1], port).into()).await {
            let _ = stream.write_all(&[0x16, 3, 1]).await;
            let _ = stream.read(&mut [0; 1]).await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A silent client has a short timeout, whatever the handshake timeout is.
#[test]
fn first_flight_has_separate_timeout() {
    use std::io::{Read as _, Write as _};
    let setup = Setup::new().with("limits", "handshake-seconds = 60\nfirst-flight-seconds = 1");
    let gateway = setup.start();
    let start = Instant::now();
    let mut socket = TcpStream::connect(("127.0.0.1", gateway.port())).unwrap();
    socket.write_all(&[0x16, 3, 1]).unwrap();
    socket.set_read_timeout(Some(BOUND)).unwrap();
    assert_eq!(socket.read(&mut [0; 1]).unwrap_or(0), 0, "it is closed");
    assert!(start.elapsed() >= Duration::from_millis(900), "{:?}", start.elapsed());
    let refused = gateway.handshake_refused(Mark::START);
    assert_eq!(refused.text("cause"), "timeout");
    assert!(refused.message().contains("first flight"), "{refused:?}");
}

/// A connection above the limit waits until the handshake timeout.
#[test]
fn handshake_over_connection_limit_times_out() {
    let setup = Setup::new().with("limits", "connections = 1\nhandshake-seconds = 2");
    let gateway = setup.start();
    let mut first = Light::connect(gateway.port(), LIGHT1).unwrap();
    let mut second = Light::connect(gateway.port(), LIGHT2).unwrap();
    second.ended().unwrap();
    assert_eq!(gateway.handshake_refused(Mark::START).text("cause"), "no-place");
    first.ask(&Request::create_ae("light1").from("Clight-AE1")).unwrap().expect(201, 2001);
}
