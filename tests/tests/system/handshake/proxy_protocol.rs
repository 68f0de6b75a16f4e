//! A load balancer in front of the gateway, which names each client with the PROXY protocol.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use saegis_tests::mqtt::{Mqtt, connect};
use saegis_tests::{
    BOUND, Credential, Event, Gateway, HaProxy, LIGHT1, LIGHT2, Light, Mark, Request, Setup, Tool,
    connect_from, local_proxy_header, proxy_header, proxy_header_of, wait_until,
};

/// Returns a gateway behind the load balancer 127.0.0.9.
fn behind() -> Setup {
    Setup::new().with("proxy-protocol", "from = [\"127.0.0.9\"]")
}

/// Connects as the load balancer, and sends these bytes.
fn forwarded(port: u16, bytes: &[u8]) -> TcpStream {
    let mut socket = connect_from("127.0.0.9", port);
    socket.set_read_timeout(Some(BOUND)).unwrap();
    socket.set_nodelay(true).unwrap();
    socket.write_all(bytes).unwrap();
    socket
}

/// Performs the handshake of a device behind the load balancer.
fn device(port: u16, address: &str, credential: Credential<'_>) -> std::io::Result<Light> {
    Light::over(forwarded(port, &proxy_header(address)), credential, BOUND)
}

fn wrong_key() -> Credential<'static> {
    Credential { key: "ff112233445566778899aabbccddeeff", ..LIGHT1 }
}

/// Waits until the gateway has closed a connection without a byte.
#[track_caller]
fn closed(mut socket: TcpStream) {
    assert_eq!(socket.read(&mut [0; 1]).unwrap_or(0), 0, "it is closed");
}

#[track_caller]
fn assert_served(light: &mut Light) {
    light
        .ask(&Request::retrieve("/cse/nothing").from("Clight-AE1"))
        .unwrap()
        .expect_refusal(404, 4004);
}

#[test]
fn haproxy_names_its_clients() {
    let gateway = Setup::new()
        .with("proxy-protocol", "from = [\"127.0.0.1\", \"10.1.0.0/16\"]")
        .with("audit", "file = \"state/audit.jsonl\"")
        .with("limits", "failed-handshakes-per-minute = 3")
        .with_metrics()
        .start();
    let balancer = HaProxy::start(gateway.port());
    let mut light = Light::over(connect_from("127.0.0.7", balancer.port()), LIGHT1, BOUND).unwrap();
    assert_served(&mut light);
    let established = gateway.log().wait("association.established");
    assert!(established.text("peer").starts_with("127.0.0.7:"), "{established:?}");
    assert_eq!(established.text("proxy"), "127.0.0.1", "{established:?}");
    // The trail has the same line, and each line of the connection both addresses.
    let in_trail = || std::fs::read_to_string(gateway.path("state/audit.jsonl")).unwrap();
    wait_until("it is in the trail", || in_trail().contains("\"proxy\":\"127.0.0.1\""));
    light.close();
    let ended = gateway.log().wait("association.ended");
    assert!(ended.text("spans").contains("\"proxy\":\"127.0.0.1\""), "{ended:?}");
    // A device that guesses is barred alone.
    let wrong = |from| Light::over(connect_from(from, balancer.port()), wrong_key(), BOUND);
    for _ in 0..3 {
        assert!(wrong("127.0.0.8").is_err());
    }
    gateway.log().all(Mark::START, "handshake.refused", 3);
    let mark = gateway.log().mark();
    assert!(Light::over(connect_from("127.0.0.8", balancer.port()), LIGHT2, BOUND).is_err());
    let refused = gateway.handshake_refused(mark);
    assert_eq!(refused.text("cause"), "too-many-failed");
    assert!(refused.text("peer").starts_with("127.0.0.8:"), "{refused:?}");
    Light::over(connect_from("127.0.0.7", balancer.port()), LIGHT2, BOUND).unwrap().close();
    let explain = ["explain", "--address", "127.0.0.8", "--last", "9"];
    let explained = || saegis_tests::saegis(&gateway.path(""), &explain).out;
    wait_until("it is explained", || explained().contains("maximum number of failed handshakes"));
    // Its many health checks are not handshakes.
    let metrics = gateway.monitor("/metrics");
    assert_eq!(metrics.value("saegis_handshakes_total{outcome=\"connection\"}"), 0.0);
    assert_eq!(metrics.value("saegis_handshakes_total{outcome=\"proxy-header\"}"), 0.0);
    assert!(!balancer.log().text().contains("is DOWN"), "{}", balancer.log().text());
}

/// Waits for the refusal of a device.
#[track_caller]
fn refused_device(gateway: &Gateway, mark: Mark, cause: &str, address: &str) {
    let fits = |e: &Event| e.text("cause") == cause && e.text("peer") == address;
    gateway.log().wait_for(mark, "handshake.refused", fits);
}

#[test]
fn handshakes_are_limited_by_address_in_header() {
    let gateway = behind().with("limits", "handshakes-per-peer = 1").start();
    let port = gateway.port();
    for (address, other) in
        [("198.51.100.7:1000", "198.51.100.8:1000"), ("[2001:db8::7]:1000", "[2001:db8:1::7]:1000")]
    {
        // Either is admitted first. The other one is refused if the first one is still in progress.
        let begun = [&proxy_header(address)[..], &[0x16, 3, 1]].concat();
        let mark = gateway.log().mark();
        let mut stalled = vec![forwarded(port, &begun)];
        wait_until("the second handshake is refused", || {
            let is_refused = device(port, address, LIGHT1).is_err();
            if !is_refused {
                stalled.push(forwarded(port, &begun));
            }
            is_refused
        });
        refused_device(&gateway, mark, "too-many", address);
        device(port, other, LIGHT1).unwrap().close();
    }
}

#[test]
fn failures_are_limited_by_address_in_header() {
    let limit = "failed-handshakes-per-minute = 2";
    let gateway = behind().with("limits", limit).start();
    let port = gateway.port();
    for address in ["198.51.100.7:1000", "[2001:db8::7]:1000"] {
        let mark = gateway.log().mark();
        for _ in 0..2 {
            assert!(device(port, address, wrong_key()).is_err());
        }
        refused_device(&gateway, mark, "wrong-key", address);
        gateway.log().all(mark, "handshake.refused", 2);
        assert!(device(port, address, LIGHT1).is_err());
        refused_device(&gateway, mark, "too-many-failed", address);
        device(port, "198.51.100.8:1000", LIGHT1).unwrap().close();
    }
}

#[test]
fn hostile_headers_are_refused() {
    let gateway = behind().with_metrics().start();
    let header = proxy_header("198.51.100.7:1000");
    let v4 = &header[16..];
    let v1 = b"PROXY TCP4 198.51.100.7 192.0.2.1 1000 8443\r\n".to_vec();
    let mut signature = header.clone();
    signature[11] = b'\r';
    let hello = [0x16, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3, 1, 2, 3, 4, 5, 6, 7];
    for (what, bytes, why) in [
        ("no header", hello.to_vec(), "sent no"),
        ("another signature", signature, "sent no"),
        ("version 1", v1, "version 1"),
        ("version 3", proxy_header_of([0x31, 0x11], v4), "malformed"),
        ("an unknown command", proxy_header_of([0x22, 0x11], v4), "malformed"),
        ("an unknown family", proxy_header_of([0x21, 0x41], v4), "malformed"),
        ("addresses that are cut", proxy_header_of([0x21, 0x11], &v4[..8]), "malformed"),
        (
            "a TLV that is cut",
            proxy_header_of([0x21, 0x11], &[v4, &[4, 0, 9, 1]].concat()),
            "malformed",
        ),
        ("no address", proxy_header_of([0x21, 0], &[]), "no address"),
        ("a Unix socket", proxy_header_of([0x21, 0x31], &[b'/'; 216]), "no address"),
        ("a datagram", proxy_header_of([0x21, 0x12], v4), "no address"),
        ("any address", proxy_header("0.0.0.0:1000"), "no address"),
        ("a long header", proxy_header_of([0x21, 0x11], &[0; 521]), "at most 536"),
        (
            "a header without an end",
            proxy_header_of([0x21, 0x11], &[0; 65535])[..100].to_vec(),
            "at most 536",
        ),
    ] {
        let mark = gateway.log().mark();
        closed(forwarded(gateway.port(), &bytes));
        let refused = gateway.handshake_refused(mark);
        assert_eq!(refused.text("cause"), "proxy-header", "{what}: {refused:?}");
        assert!(refused.text("why").contains(why), "{what}: {refused:?}");
        assert!(refused.text("peer").starts_with("127.0.0.9:"), "{what}: {refused:?}");
    }
    for end in [0, 1, 15, 16, header.len() - 1] {
        let mark = gateway.log().mark();
        let socket = forwarded(gateway.port(), &header[..end]);
        socket.shutdown(Shutdown::Write).unwrap();
        closed(socket);
        assert_eq!(gateway.handshake_refused(mark).text("cause"), "connection", "{end}");
    }
    let metrics = gateway.monitor("/metrics");
    assert_eq!(metrics.value("saegis_handshakes_total{outcome=\"proxy-header\"}"), 14.0);
    assert_eq!(metrics.value("saegis_handshakes_total{outcome=\"connection\"}"), 5.0);
    assert_served(&mut device(gateway.port(), "198.51.100.7:1000", LIGHT1).unwrap());
}

#[test]
fn second_header_is_not_tls() {
    let gateway = behind().start();
    let twice = [proxy_header("198.51.100.7:1000"), proxy_header("192.0.2.66:1000")].concat();
    closed(forwarded(gateway.port(), &twice));
    let refused = gateway.handshake_refused(Mark::START);
    assert_eq!(
        (refused.text("cause"), refused.text("peer")),
        ("not-tls".into(), "198.51.100.7:1000".into())
    );
}

#[test]
fn header_from_another_address_is_refused() {
    let gateway = behind().start();
    let mut socket = connect_from("127.0.0.8", gateway.port());
    socket.set_read_timeout(Some(BOUND)).unwrap();
    socket.write_all(&proxy_header("198.51.100.7:1000")).unwrap();
    closed(socket);
    let refused = gateway.handshake_refused(Mark::START);
    assert_eq!(refused.text("cause"), "not-tls");
    assert!(refused.text("peer").starts_with("127.0.0.8:"), "{refused:?}");
    // Without a header it is served, and the load balancer is not.
    assert_served(
        &mut Light::over(connect_from("127.0.0.8", gateway.port()), LIGHT1, BOUND).unwrap(),
    );
    let established = gateway.log().wait("association.established");
    assert_eq!(established.text("proxy"), "null", "{established:?}");
    let mark = gateway.log().mark();
    assert!(Light::over(connect_from("127.0.0.9", gateway.port()), LIGHT1, BOUND).is_err());
    assert_eq!(gateway.handshake_refused(mark).text("cause"), "proxy-header");
}

/// The time limit holds for the whole header, however its bytes arrive.
#[test]
fn slow_header_times_out() {
    let limits = "handshake-seconds = 60\nfirst-flight-seconds = 1";
    let gateway = behind().with("limits", limits).start();
    for header in [proxy_header_of([0x21, 0x11], &[0; 520]), local_proxy_header()] {
        let mark = gateway.log().mark();
        let start = Instant::now();
        let mut socket = forwarded(gateway.port(), &[]);
        let mut writer = socket.try_clone().unwrap();
        let dripping = thread::spawn(move || {
            for byte in header {
                if writer.write_all(&[byte]).is_err() {
                    return;
                }
                thread::sleep(Duration::from_millis(10));
            }
        });
        assert_eq!(socket.read(&mut [0; 1]).unwrap_or(0), 0, "it is closed");
        assert!(start.elapsed() >= Duration::from_millis(900), "{:?}", start.elapsed());
        assert_eq!(gateway.handshake_refused(mark).text("cause"), "timeout");
        dripping.join().unwrap();
    }
    assert_served(&mut device(gateway.port(), "198.51.100.7:1000", LIGHT1).unwrap());
}

/// A first flight that arrives after the header has the time limit of other first flights.
#[test]
fn first_flight_may_follow_header_later() {
    let gateway = behind().start();
    let socket = forwarded(gateway.port(), &proxy_header("198.51.100.7:1000"));
    // Another device is served meanwhile, so that the header has been read.
    assert_served(&mut device(gateway.port(), "198.51.100.8:1000", LIGHT1).unwrap());
    let mut light = Light::over(socket, LIGHT2, BOUND).unwrap();
    light
        .ask(&Request::retrieve("/cse/nothing").from("Clight-AE2"))
        .unwrap()
        .expect_refusal(404, 4004);
    let established = gateway.log().all(Mark::START, "association.established", 2);
    assert_eq!(established[1].text("peer"), "198.51.100.7:1000");
    // Byte by byte, with the first flight in the same segment as the end of the header.
    let mut socket = forwarded(gateway.port(), &[]);
    for byte in proxy_header("[2001:db8::7]:1000") {
        socket.write_all(&[byte]).unwrap();
    }
    assert_served(&mut Light::over(socket, LIGHT1, BOUND).unwrap());
}

#[test]
fn connections_without_header_are_limited() {
    let limits = "handshakes = 4\nfirst-flight-seconds = 10";
    let gateway = behind().with("limits", limits).on_one_processor().start();
    let silent: Vec<_> = (0..4).map(|_| forwarded(gateway.port(), &[])).collect();
    closed(forwarded(gateway.port(), &[]));
    let refused = gateway.handshake_refused(Mark::START);
    assert_eq!(refused.text("cause"), "too-many-in-all");
    assert!(refused.text("peer").starts_with("127.0.0.9:"), "{refused:?}");
    // They take no handshake of other clients.
    assert_served(
        &mut Light::over(connect_from("127.0.0.8", gateway.port()), LIGHT1, BOUND).unwrap(),
    );
    drop(silent);
    gateway.log().all(Mark::START, "handshake.refused", 5);
    assert_served(&mut device(gateway.port(), "198.51.100.7:1000", LIGHT1).unwrap());
}

#[test]
fn health_checks_are_not_handshakes() {
    let limit = "failed-handshakes-per-minute = 1";
    let gateway = behind().with("limits", limit).with_metrics().start();
    for _ in 0..20 {
        let socket = forwarded(gateway.port(), &local_proxy_header());
        socket.shutdown(Shutdown::Write).unwrap();
        closed(socket);
    }
    // A health check may be a handshake, of the load balancer.
    let socket = forwarded(gateway.port(), &local_proxy_header());
    assert_served(&mut Light::over(socket, LIGHT1, BOUND).unwrap());
    let established = gateway.log().wait("association.established");
    assert!(established.text("peer").starts_with("127.0.0.9:"), "{established:?}");
    assert_eq!(established.text("proxy"), "null", "{established:?}");
    let metrics = gateway.monitor("/metrics").text;
    let outcomes: Vec<_> =
        metrics.lines().filter(|l| l.starts_with("saegis_handshakes_total")).collect();
    assert_eq!(outcomes, ["saegis_handshakes_total{outcome=\"established\"} 1"], "{metrics}");
}

#[test]
fn mqtt_listener_and_maf_require_header() {
    let gateway = behind().with_mqtt().start();
    let mark = gateway.log().mark();
    assert!(Light::over(connect_from("127.0.0.9", gateway.mqtt_port()), LIGHT1, BOUND).is_err());
    assert_eq!(gateway.handshake_refused(mark).text("cause"), "proxy-header");
    let mut mqtt = Mqtt::over(device(gateway.mqtt_port(), "198.51.100.7:1000", LIGHT1).unwrap());
    mqtt.send(&connect("A::Clight-AE1", 0b10, 60));
    assert_eq!(mqtt.read(), Some((0x20, vec![0, 0])));
    assert_eq!(gateway.log().wait("association.established").text("peer"), "198.51.100.7:1000");

    let km = Credential { identity: "light@maf.example", key: LIGHT2.key };
    let row = format!("//in.provider.com/mn-cse-123456/Clight,{},{}\n", km.key, km.identity);
    let maf = Setup::maf("maf.example")
        .with("proxy-protocol", "from = [\"127.0.0.9\"]")
        .file("km-table.csv", &format!("client_id,km,km_id\n{row}"))
        .start();
    let mark = maf.log().mark();
    assert!(Light::over(connect_from("127.0.0.9", maf.port()), km, BOUND).is_err());
    assert_eq!(maf.handshake_refused(mark).text("cause"), "proxy-header");
    device(maf.port(), "198.51.100.7:1000", km).unwrap();
    assert_eq!(maf.log().wait("association.established").text("peer"), "198.51.100.7:1000");
}

#[test]
fn unclear_load_balancers_are_refused_at_start() {
    for (from, what) in [
        ("0.0.0.0/0", "contains every address"),
        ("10.1.0.2/16", "write 10.1.0.0/16"),
        ("balancer.example", "is neither an IP address nor a network"),
    ] {
        let setup = Setup::new().with("proxy-protocol", &format!("from = [\"{from}\"]"));
        let ended = setup.run_until_exit();
        assert_ne!(ended.code, 0);
        assert!(ended.err.contains(what) && ended.err.contains("saegis.toml:"), "{ended:?}");
    }
}

/// A tool of another project works behind the load balancer as well.
#[test]
fn openssl_connects_through_haproxy() {
    let gateway = Setup::new().with("proxy-protocol", "from = [\"127.0.0.1\"]").start();
    let balancer = HaProxy::start(gateway.port());
    let mut client = Tool::OpenSsl.connect(balancer.port(), LIGHT1);
    client.assert_served_as("Clight-AE1");
    let associations = saegis_tests::saegis(&gateway.path(""), &["associations"]).expect(0);
    assert!(associations.out.contains("127.0.0.1:"), "{associations:?}");
}
