//! Associations over DTLS: how they start, are replaced, and end.

use std::net::UdpSocket;
use std::process::Command;
use std::time::Duration;

use saegis_tests::certificates::Pki;
use saegis_tests::{
    BOUND, CCM_8, CoapLight, CoapMessage, Credential, Gateway, LIGHT1, LIGHT2, Light, Mark, Reply,
    Request, Running, Setup, Tool, Upstream, first_flight, hello_with_cookie, udp_socket,
    wait_until,
};
use serde_json::json;

const OWN: &str = "Clight-AE1";
const CSE: &str = "~/mn-cse-123456/cse";

fn nothing(from: &str) -> CoapMessage {
    CoapMessage::retrieve(&format!("{CSE}/nothing"), from)
}

fn start() -> Gateway {
    Setup::new().with_coap().with_metrics().start()
}

fn connect(gateway: &Gateway) -> CoapLight {
    CoapLight::connect(gateway.coap_port(), LIGHT1).unwrap()
}

fn works(light: &mut CoapLight) {
    light.ask(&nothing(OWN)).expect(0x84, 4004);
}

/// Asserts that the association ends with an alert.
#[track_caller]
fn is_closed(light: &mut CoapLight) {
    let closed = light.receive(BOUND);
    assert!(closed.is_err(), "{closed:?}");
}

#[test]
fn each_suite_connects() {
    let gateway = start();
    for (suite, name) in [
        (CCM_8, "TLS_PSK_WITH_AES_128_CCM_8"),
        ("PSK-AES128-CBC-SHA256", "TLS_PSK_WITH_AES_128_CBC_SHA256"),
        ("ECDHE-PSK-AES128-CBC-SHA256", "TLS_ECDHE_PSK_WITH_AES_128_CBC_SHA256"),
        ("ECDHE-PSK-CHACHA20-POLY1305", "TLS_ECDHE_PSK_WITH_CHACHA20_POLY1305_SHA256"),
    ] {
        let mark = gateway.log().mark();
        let socket = udp_socket(gateway.coap_port());
        let mut light = CoapLight::over(socket, LIGHT1, suite, BOUND).unwrap();
        works(&mut light);
        let established = gateway.log().wait_after(mark, "association.established");
        assert_eq!(established.text("suite"), name);
        light.close();
        let ended = gateway.log().wait_after(mark, "association.ended");
        assert_eq!(ended.text("why"), "closed");
    }
}

/// A certificate is bound to the AE-ID that it names. One that is not valid gets an alert, unlike a
/// wrong key.
#[test]
fn certificate_is_bound_to_its_ae_id() {
    let pki = Pki::new();
    let gateway = pki.setup().with_coap().start();
    let at = || udp_socket(gateway.coap_port());
    let identity = pki.identity(&pki.example.ae);
    let mut light = CoapLight::with_certificate(at(), &identity).unwrap();
    works(&mut light);
    for other in ["Clight-AE2", "Sother", "C"] {
        light.ask(&nothing(other)).expect(0x83, 4106);
    }
    let established = gateway.log().wait("association.established");
    let suite = "TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8";
    assert_eq!(
        (established.text("saef"), established.text("suite")),
        ("certificate".into(), suite.into())
    );
    let foreign = Pki::new();
    let foreign = foreign.identity(&foreign.example.ae);
    let refused = CoapLight::with_certificate(at(), &foreign).err().unwrap();
    assert_ne!(refused.kind(), std::io::ErrorKind::TimedOut, "{refused}");
    let mark = Mark::START;
    assert_eq!(gateway.handshake_refused(mark).text("cause"), "certificate");
    // Keys are accepted on the same port.
    works(&mut connect(&gateway));
}

/// The clients of OpenSSL and GnuTLS send a ping of CoAP, and get a reset.
#[test]
fn clients_of_others_connect() {
    let gateway = start();
    let port = gateway.coap_port().to_string();
    let at = format!("127.0.0.1:{port}");
    let (identity, key) = (LIGHT1.identity, LIGHT1.key);
    let openssl = ["s_client", "-dtls1_2", "-quiet", "-connect", &at, "-psk", key];
    let openssl = [&openssl[..], &["-psk_identity", identity, "-cipher", CCM_8]].concat();
    let priority = "NORMAL:-VERS-ALL:+VERS-DTLS1.2:-KX-ALL:+PSK:-CIPHER-ALL:+AES-128-CCM-8";
    let gnutls =
        ["--udp", "--port", &port, "127.0.0.1", "--pskusername", identity, "--pskkey", key];
    let gnutls = [&gnutls[..], &["--priority", priority]].concat();
    for (program, words) in [("openssl", openssl), ("gnutls-cli", gnutls)] {
        let mark = gateway.log().mark();
        let mut command = Command::new(program);
        command.args(words);
        let mut client = Running::start(&mut command);
        let established = gateway.log().wait_after(mark, "association.established");
        assert_eq!(established.text("credential_id"), format!("12-{identity}"));
        client.write(b"@\0\0\n");
        let is_reset = |out: &[u8], _| out.windows(4).any(|w| w == b"p\0\0\n").then_some(());
        assert!(client.out.wait(BOUND, is_reset).is_some(), "{program}: {}", client.out.text());
    }
}

/// A credential that a reload removes ends its associations over DTLS too.
#[test]
fn revocation_ends_association() {
    let gateway = start();
    let mut light = connect(&gateway);
    let mut other = CoapLight::connect(gateway.coap_port(), LIGHT2).unwrap();
    works(&mut light);
    let rest = gateway.table_without(LIGHT1);
    gateway.in_force_after(|gateway| gateway.write("policies/psk-lookup-table.csv", rest));
    is_closed(&mut light);
    let revoked = gateway.log().wait("association.revoked");
    assert_eq!(revoked.text("credential_id"), format!("12-{}", LIGHT1.identity));
    other.ask(&nothing("Clight-AE2")).expect(0x84, 4004);
    let again = CoapLight::over(udp_socket(gateway.coap_port()), LIGHT1, CCM_8, Duration::ZERO);
    assert!(again.is_err());
}

#[test]
fn idle_association_ends() {
    let gateway = Setup::new().with_coap().with("coap", "idle-seconds = 1").start();
    let mut light = connect(&gateway);
    works(&mut light);
    is_closed(&mut light);
    assert_eq!(gateway.log().wait("association.ended").text("why"), "idle");
}

/// Datagrams of an address without an association are counted, and not answered.
#[test]
fn unknown_address_gets_no_answer() {
    let gateway = start();
    let stranger = udp_socket(gateway.coap_port());
    stranger.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    for datagram in [&b"x"[..], &[23, 0xFE, 0xFD, 0, 1, 0, 0, 0, 0, 0, 1, 0, 20]] {
        stranger.send(datagram).unwrap();
    }
    assert!(stranger.recv(&mut [0; 100]).is_err());
    let dropped = "saegis_datagrams_dropped_total{cause=\"unknown-address\"}";
    wait_until("they are counted", || gateway.monitor("/metrics").value(dropped) >= 2.0);
}

/// A device that comes back with another port, as behind a NAT, gets no answer, and connects again.
/// The association of the former port stays.
#[test]
fn device_with_new_port_connects_again() {
    let gateway = start();
    let mut light = connect(&gateway);
    works(&mut light);
    let former = light.socket().try_clone().unwrap();
    light.change_port(udp_socket(gateway.coap_port()));
    let id = light.id();
    light.send(&CoapMessage { id, ..nothing(OWN) });
    assert_eq!(light.receive(Duration::from_millis(500)).unwrap(), None);
    let mut again = connect(&gateway);
    works(&mut again);
    light.change_port(former);
    works(&mut light);
}

/// A device that was switched off connects again from the same port. Its former association works
/// until the new one is whole.
#[test]
fn new_handshake_from_same_port_replaces_association() {
    let gateway = start();
    let mut light = connect(&gateway);
    works(&mut light);
    let socket = light.socket().try_clone().unwrap();
    // A handshake that fails does not end the association.
    let wrong = Credential { key: LIGHT2.key, ..LIGHT1 };
    let short = Duration::from_millis(500);
    assert!(CoapLight::over(socket.try_clone().unwrap(), wrong, CCM_8, short).is_err());
    works(&mut light);
    let mark = gateway.log().mark();
    let mut again = CoapLight::over(socket, LIGHT1, CCM_8, BOUND).unwrap();
    works(&mut again);
    assert_eq!(gateway.log().wait_after(mark, "association.ended").text("why"), "replaced");
    works(&mut again);
}

#[test]
fn oldest_association_of_credential_ends() {
    let limit = "associations-per-credential = 2";
    let gateway = Setup::new().with_coap().with("limits", limit).start();
    let mut lights: Vec<_> = (0..4).map(|_| connect(&gateway)).collect();
    for light in &mut lights[..2] {
        is_closed(light);
    }
    lights[2..].iter_mut().for_each(works);
}

/// A wrong key and an unknown identity get the same datagrams, and both count as failed attempts.
#[test]
fn guesses_are_alike_and_counted() {
    for engine in ["openssl", "native"] {
        let limits = "handshake-seconds = 1\nfailed-handshakes-per-minute = 2";
        let setup = Setup::new().with_coap().with("limits", limits);
        let engine = format!("psk-engine = \"{engine}\"");
        guesses_are_alike_and_counted_by(&setup.with("coap", &engine).start());
    }
}

fn guesses_are_alike_and_counted_by(gateway: &Gateway) {
    let wrong = Credential { key: LIGHT2.key, ..LIGHT1 };
    let unknown = Credential { identity: "nobody@in.provider.com", ..LIGHT1 };
    for (credential, cause) in [(wrong, "wrong-key"), (unknown, "unknown-identity")] {
        let mark = gateway.log().mark();
        let socket = udp_socket(gateway.coap_port());
        let refused = CoapLight::over(socket, credential, CCM_8, Duration::from_secs(2));
        // Nothing but the time says so.
        let refused = refused.err().unwrap();
        assert_eq!(refused.kind(), std::io::ErrorKind::TimedOut, "{refused}");
        assert_eq!(gateway.handshake_refused(mark).text("cause"), cause);
    }
    let mark = gateway.log().mark();
    let socket = udp_socket(gateway.coap_port());
    assert!(CoapLight::over(socket, LIGHT1, CCM_8, Duration::from_secs(1)).is_err());
    assert_eq!(gateway.handshake_refused(mark).text("cause"), "too-many-failed");
}

/// Handshakes that stop after the cookie use up neither the slots of others nor memory.
#[test]
fn unfinished_handshakes_are_bounded() {
    let limits = "handshake-seconds = 5\nhandshakes-per-peer = 3";
    let gateway = Setup::new().with_coap().with("limits", limits).start();
    let wrong = Credential { key: LIGHT2.key, ..LIGHT1 };
    for _ in 0..4 {
        let socket = udp_socket(gateway.coap_port());
        let short = Duration::from_millis(300);
        assert!(CoapLight::over(socket, wrong, CCM_8, short).is_err());
    }
    let refused = gateway.log().wait("handshake.refused");
    assert_eq!(refused.text("cause"), "too-many");
    // Another host connects.
    let other = UdpSocket::bind("127.0.0.2:0").unwrap();
    other.connect(("127.0.0.1", gateway.coap_port())).unwrap();
    works(&mut CoapLight::over(other, LIGHT1, CCM_8, BOUND).unwrap());
}

fn resident(gateway: &Gateway) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Sends the ClientHellos of a new handshake, which differs from others by `n`, and returns when the
/// gateway has answered the second one.
fn prove_address(socket: &UdpSocket, hello: &[u8], n: u8) {
    socket.set_read_timeout(Some(BOUND)).unwrap();
    let mut hello = hello.to_vec();
    // The random value.
    hello[30] = n;
    let mut buffer = [0; 1500];
    socket.send(&hello).unwrap();
    loop {
        let length = socket.recv(&mut buffer).unwrap();
        match buffer[13] {
            // A HelloVerifyRequest, and a ServerHello of this or of a former handshake.
            3 => socket.send(&hello_with_cookie(&hello, &buffer[..length])).unwrap(),
            _ => return,
        };
    }
}

/// Encrypted records that come before the keys are dropped, and not stored for later.
#[test]
fn early_encrypted_records_allocate_little() {
    const HANDSHAKES: u8 = 40;
    let gateway = Setup::new().with_coap().with("limits", "handshake-seconds = 30").start();
    let hello = first_flight(LIGHT1);
    let mut before = 0;
    let sockets = (0..HANDSHAKES).map(|n| {
        let socket = udp_socket(gateway.coap_port());
        prove_address(&socket, &hello, n);
        if n == 0 {
            before = resident(&gateway);
        }
        for sequence in 0..100 {
            socket.send(&[22, 0xFE, 0xFD, 0, 1, 0, 0, 0, 0, 0, sequence, 0, 1, 7]).unwrap();
            // The queue of an address is short.
            if sequence % 10 == 9 {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        socket
    });
    let sockets: Vec<_> = sockets.collect();
    works(&mut connect(&gateway));
    let grown = resident(&gateway).saturating_sub(before);
    assert!(grown < 10 << 10, "{grown} KiB");
    assert_eq!(gateway.log().all(Mark::START, "handshake.refused", 0).len(), 0);
    drop(sockets);
}

/// A ClientHello with its cookie can be replayed from the address of its client. Such handshakes
/// replace each other, and do not count as failed attempts of the address.
#[test]
fn replaced_handshake_without_credential_is_not_counted() {
    let limits = "handshake-seconds = 30\nfailed-handshakes-per-minute = 2";
    let gateway = Setup::new().with_coap().with("limits", limits).start();
    let socket = udp_socket(gateway.coap_port());
    let hello = first_flight(LIGHT1);
    for n in 0..6 {
        let mark = gateway.log().mark();
        prove_address(&socket, &hello, n);
        if n > 0 {
            assert_eq!(gateway.handshake_refused(mark).text("cause"), "replaced");
        }
    }
    works(&mut connect(&gateway));
    // A wrong key counts, also if another handshake replaces its own.
    let wrong = Credential { key: LIGHT2.key, ..LIGHT1 };
    let short = Duration::from_millis(500);
    for _ in 0..5 {
        let socket = socket.try_clone().unwrap();
        assert!(CoapLight::over(socket, wrong, CCM_8, short).is_err());
    }
    gateway.log().wait_for(Mark::START, "handshake.refused", |refused| {
        refused.text("cause") == "too-many-failed"
    });
}

/// Anybody can replay the ClientHello of a device from its address.
#[test]
fn replayed_client_hello_with_timeout_is_not_counted() {
    let limits = "handshake-seconds = 1\nfailed-handshakes-per-minute = 2";
    let gateway = Setup::new().with_coap().with("limits", limits).start();
    let hello = first_flight(LIGHT1);
    let mark = gateway.log().mark();
    for n in 0..6 {
        prove_address(&udp_socket(gateway.coap_port()), &hello, n);
    }
    gateway.log().all(mark, "handshake.refused", 6).iter().for_each(|refused| {
        assert_eq!(refused.text("cause"), "timeout");
    });
    works(&mut connect(&gateway));
}

/// The last of the handshakes that have replaced each other continues.
#[test]
fn replaced_handshakes_of_address_are_bounded() {
    const MOST: u8 = 9;
    let limits = "handshake-seconds = 30";
    let gateway = Setup::new().with_coap().with_metrics().with("limits", limits).start();
    let (socket, hello) = (udp_socket(gateway.coap_port()), first_flight(LIGHT1));
    for n in 0..MOST {
        let mark = gateway.log().mark();
        prove_address(&socket, &hello, n);
        if n > 0 {
            assert_eq!(gateway.handshake_refused(mark).text("cause"), "replaced");
        }
    }
    let dropped = || {
        let metrics = gateway.monitor("/metrics");
        metrics.value("saegis_datagrams_dropped_total{cause=\"too-many-hellos\"}")
    };
    // It gets a HelloVerifyRequest, and nothing more.
    let mut next = hello.clone();
    next[30] = MOST;
    socket.send(&next).unwrap();
    let mut buffer = [0; 1500];
    let verify = loop {
        let length = socket.recv(&mut buffer).unwrap();
        // Repeated flights of the last handshake come in between.
        if buffer[13] == 3 {
            break &buffer[..length];
        }
    };
    socket.send(&hello_with_cookie(&next, verify)).unwrap();
    wait_until("the ClientHello is dropped", || dropped() == 1.0);
    assert_eq!(gateway.log().all(Mark::START, "handshake.refused", 8).len(), 8);
    works(&mut connect(&gateway));
}

/// An idle association with authenticated encryption has its keys, but no buffers of OpenSSL.
#[test]
fn idle_associations_are_small() {
    const ASSOCIATIONS: u64 = 400;
    let limit = "associations-per-credential = 1000\nhandshakes-per-peer = 1000";
    for (suite, name) in [
        (CCM_8, "TLS_PSK_WITH_AES_128_CCM_8"),
        ("PSK-AES256-GCM-SHA384", "TLS_PSK_WITH_AES_256_GCM_SHA384"),
    ] {
        let setup = Setup::new().with_coap().with("coap", &format!("suites = [\"{name}\"]"));
        let gateway = setup.with("limits", limit).start();
        let open = |count| -> Vec<_> {
            let connect = |_| {
                let socket = udp_socket(gateway.coap_port());
                let mut light = CoapLight::over(socket, LIGHT1, suite, BOUND).unwrap();
                works(&mut light);
                light
            };
            (0..count).map(connect).collect()
        };
        let _first = open(100);
        let before = resident(&gateway);
        let mut lights = open(ASSOCIATIONS);
        let each = resident(&gateway).saturating_sub(before) / ASSOCIATIONS;
        println!("{each} KiB for each idle association with {name}");
        // Futures of a build for development are larger than those of a release.
        assert!(each < 32, "{each} KiB with {name}");
        lights.iter_mut().for_each(works);
    }
}

#[test]
fn gateway_that_was_killed_accepts_new_associations() {
    let gateway = Setup::new().with_coap().start();
    let mut light = connect(&gateway);
    let ae = json!({"m2m:ae": {"rn": "light1", "api": "Nlight", "rr": false}});
    light.ask(&CoapMessage::create(CSE, OWN, 2, &ae)).expect(0x41, 2001);
    let gateway = gateway.kill_and_restart();
    let mut light = connect(&gateway);
    light.ask(&CoapMessage::retrieve(&format!("{CSE}/light1"), OWN)).expect(0x45, 2000);
}

/// A stopping gateway answers what it has begun, and ends its associations.
#[test]
fn stopping_gateway_ends_associations() {
    let mut gateway = start();
    let mut light = connect(&gateway);
    works(&mut light);
    gateway.stop();
    is_closed(&mut light);
}

/// The port of CoAP is free as soon as its associations have ended, also if others have requests.
#[test]
fn stopping_gateway_releases_port_after_last_association() {
    let upstream = Upstream::start(Reply::Pending);
    let mut gateway = Setup::new().with_coap().upstream(upstream.port()).start();
    let port = gateway.coap_port();
    let mut http = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    http.send(&Request::retrieve("/cse/light1").from(OWN).bytes());
    upstream.wait(1);
    let mut light = connect(&gateway);
    gateway.signal("TERM");
    is_closed(&mut light);
    wait_until("the port is free", || UdpSocket::bind(("127.0.0.1", port)).is_ok());
    assert!(gateway.runs(), "it has a request");
    upstream.reply_with(Reply::answer(404, 4004, "{}"));
    http.read().expect(404, 4004);
    assert_eq!(gateway.wait().unwrap().code(), Some(0));
}

/// A request that takes long is acknowledged, and its response comes in a message of its own.
#[test]
fn slow_request_is_answered_separately() {
    let upstream = Upstream::start(Reply::Pending);
    let gateway = Setup::new().with_coap().upstream(upstream.port()).start();
    let mut light = connect(&gateway);
    let id = light.id();
    let request = CoapMessage { id, token: vec![9], ..nothing(OWN) };
    light.send(&request);
    let acknowledgement = light.receive(BOUND).unwrap().unwrap();
    let expected = CoapMessage { kind: 2, id, ..CoapMessage::default() };
    assert_eq!(acknowledgement, expected);
    // A repetition is acknowledged again.
    light.send(&request);
    assert_eq!(light.receive(BOUND).unwrap(), Some(expected));
    upstream.reply_with(Reply::answer(404, 4004, "{}"));
    let response = light.receive(BOUND).unwrap().unwrap();
    assert_eq!((response.kind, &*response.token), (0, &[9][..]));
    // It comes again until it is acknowledged.
    let again = light.receive(BOUND).unwrap().unwrap();
    assert_eq!(again, response);
    light.acknowledge(&response);
    assert_eq!(light.receive(Duration::from_secs(7)).unwrap(), None);
}

/// The idle time of an association begins with the response to its last request.
#[test]
fn association_with_request_is_not_idle() {
    let upstream = Upstream::start(Reply::Pending);
    let gateway =
        Setup::new().with_coap().with("coap", "idle-seconds = 1").upstream(upstream.port()).start();
    let mut light = connect(&gateway);
    let request = CoapMessage { id: light.id(), token: vec![9], ..nothing(OWN) };
    light.send(&request);
    let acknowledgement = light.receive(BOUND).unwrap().unwrap();
    assert_eq!(acknowledgement.kind, 2);
    std::thread::sleep(Duration::from_secs(2));
    upstream.reply_with(Reply::answer(404, 4004, "{}"));
    let response = light.receive(BOUND).unwrap().unwrap();
    assert_eq!((response.kind, &*response.token), (0, &[9][..]));
    light.acknowledge(&response);
    works(&mut light);
    // Without a request, it is.
    assert_eq!(gateway.log().wait("association.ended").text("why"), "idle");
}

/// The same credential speaks HTTP and CoAP, on associations of its own.
#[test]
fn resources_are_the_same_over_http_and_coap() {
    let gateway = Setup::new().with_coap().start();
    let mut http = Light::connect(gateway.port(), LIGHT1).unwrap();
    http.ask(&Request::create_ae("light1").from(OWN)).unwrap().expect(201, 2001);
    http.ask(&Request::create_container("/cse/light1", "lamp").from(OWN)).unwrap();
    let mut light = connect(&gateway);
    let lamp = format!("{CSE}/light1/lamp");
    let value = "v".repeat(3000);
    let cin = json!({"m2m:cin": {"con": value}}).to_string();
    // In blocks of 512 bytes, with the size of the whole.
    let blocks: Vec<_> = cin.as_bytes().chunks(512).collect();
    for (n, payload) in blocks.iter().enumerate() {
        let last = n + 1 == blocks.len();
        let block = u8::try_from(n << 4).unwrap() | if last { 5 } else { 13 };
        let part = CoapMessage::create(&lamp, OWN, 4, &json!(null)).option(27, [block]);
        let answer = light.ask(&CoapMessage { payload: payload.to_vec(), ..part });
        assert_eq!(answer.code, if last { 0x41 } else { 0x5F }, "{answer:?}");
    }
    let latest = Request::retrieve("/cse/light1/lamp/la").from(OWN);
    let found = http.ask(&latest).unwrap().expect(200, 2000);
    assert_eq!(found.json()["m2m:cin"]["con"], value);
    // The response comes in blocks too.
    let (mut all, mut number) = (Vec::new(), 0u8);
    loop {
        let block = number << 4 | 5;
        let ask = CoapMessage::retrieve(&format!("{lamp}/la"), OWN).option(23, [block]);
        let answer = light.ask(&ask).expect(0x45, 2000);
        all.extend(&answer.payload);
        number += 1;
        if answer.number(23).unwrap() & 8 == 0 {
            break;
        }
    }
    let found: serde_json::Value = serde_json::from_slice(&all).unwrap();
    assert_eq!(found["m2m:cin"]["con"], value);
}
