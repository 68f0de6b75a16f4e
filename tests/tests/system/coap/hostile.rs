//! Hostile input: handshake fragments, records of other epochs, blocks that do not fit, and devices
//! that change their address or sleep.

use std::net::UdpSocket;
use std::time::Duration;

use saegis_tests::{
    BOUND, CCM_8, CoapLight, CoapMessage, Gateway, LIGHT1, Mark, Reply, Setup, Upstream,
    first_flight, hello_with_cookie, udp_socket, wait_until,
};
use serde_json::json;

const OWN: &str = "Clight-AE1";
const CSE: &str = "~/mn-cse-123456/cse";
const LAMP: &str = "~/mn-cse-123456/cse/light1/lamp";
const BLOCK1: u16 = 27;
const SIZE1: u16 = 60;
const REQUEST_TAG: u16 = 292;

fn connect(gateway: &Gateway) -> CoapLight {
    CoapLight::connect(gateway.coap_port(), LIGHT1).unwrap()
}

fn works(light: &mut CoapLight) {
    light.ask(&CoapMessage::retrieve(&format!("{CSE}/nothing"), OWN)).expect(0x84, 4004);
}

/// Another light connects, is served and goes.
fn another_works(gateway: &Gateway) {
    let mut light = connect(gateway);
    works(&mut light);
    light.close();
}

/// Registers light 1 with a container, and a subscription to it if it is notified.
fn register(light: &mut CoapLight, is_notified: bool) {
    let ae = json!({"m2m:ae": {"rn": "light1", "api": "Nlight", "rr": is_notified, "srv": ["3"]}});
    light.ask(&CoapMessage::create(CSE, OWN, 2, &ae)).expect(0x41, 2001);
    let lamp = json!({"m2m:cnt": {"rn": "lamp"}});
    light.ask(&CoapMessage::create(&format!("{CSE}/light1"), OWN, 3, &lamp)).expect(0x41, 2001);
    if is_notified {
        let told = json!({"m2m:sub": {"rn": "told", "nu": [OWN], "enc": {"net": [3]}}});
        light.ask(&CoapMessage::create(LAMP, OWN, 23, &told)).expect(0x41, 2001);
    }
}

/// Returns a record of DTLS 1.2.
fn record(kind: u8, epoch: u16, sequence: u64, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    let sequence = &sequence.to_be_bytes()[2..];
    [&[kind, 0xFE, 0xFD], &epoch.to_be_bytes()[..], sequence, &length, content].concat()
}

/// Returns a fragment of a handshake message.
fn fragment(kind: u8, length: u32, message: u16, offset: u32, content: &[u8]) -> Vec<u8> {
    let of = u32::try_from(content.len()).unwrap().to_be_bytes();
    let (length, offset) = (length.to_be_bytes(), offset.to_be_bytes());
    [&[kind], &length[1..], &message.to_be_bytes(), &offset[1..], &of[1..], content].concat()
}

/// Proves the address of a socket, so that the gateway has a handshake for it.
fn begin_handshake(gateway: &Gateway) -> UdpSocket {
    let socket = udp_socket(gateway.coap_port());
    socket.set_read_timeout(Some(BOUND)).unwrap();
    let (hello, mut buffer) = (first_flight(LIGHT1), [0; 1500]);
    socket.send(&hello).unwrap();
    let length = socket.recv(&mut buffer).unwrap();
    socket.send(&hello_with_cookie(&hello, &buffer[..length])).unwrap();
    socket.recv(&mut buffer).unwrap();
    socket
}

fn resident(gateway: &Gateway) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// ClientHellos with spoofed addresses allocate nothing, and no answer is larger than its question.
/// Beside them, each request of a light is answered, and another light connects.
#[test]
fn spoofed_hellos_allocate_nothing() {
    const ROUNDS: u8 = 20;
    const HOSTS: u8 = 100;
    const HELLOS: u8 = 50;
    let gateway = Setup::new().with_coap().start();
    let mut light = connect(&gateway);
    let hello = first_flight(LIGHT1);
    let mut before = 0;
    for round in 0..ROUNDS {
        for host in 1..=HOSTS {
            let socket = UdpSocket::bind((format!("127.1.{round}.{host}"), 0)).unwrap();
            socket.connect(("127.0.0.1", gateway.coap_port())).unwrap();
            for n in 0..HELLOS {
                let mut hello = hello.clone();
                // The random value.
                hello[30..32].copy_from_slice(&[host, n]);
                socket.send(&hello).unwrap();
            }
            if host % 10 == 0 {
                socket.set_read_timeout(Some(BOUND)).unwrap();
                let length = socket.recv(&mut [0; 1500]).unwrap();
                assert!(length < hello.len(), "{length} bytes for {}", hello.len());
                works(&mut light);
            }
        }
        another_works(&gateway);
        if round == 0 {
            before = resident(&gateway);
        }
    }
    let grown = resident(&gateway).saturating_sub(before);
    assert!(grown < 4096, "{grown} KiB");
    assert_eq!(gateway.log().all(Mark::START, "handshake.refused", 0).len(), 0);
}

/// A ClientHello in fragments is not joined, because that would need memory before the cookie.
#[test]
fn fragments_of_hello_are_counted_and_not_joined() {
    let gateway = Setup::new().with_coap().with_metrics().start();
    let hello = first_flight(LIGHT1);
    let body = &hello[25..];
    let length = u32::try_from(body.len()).unwrap();
    let socket = udp_socket(gateway.coap_port());
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let (first, second) = body.split_at(40);
    for (sequence, offset, part) in [(0, 0, first), (1, 40, second), (2, 20, second)] {
        socket.send(&record(22, 0, sequence, &fragment(1, length, 0, offset, part))).unwrap();
    }
    assert!(socket.recv(&mut [0; 1500]).is_err(), "it is answered");
    let invalid = "saegis_datagrams_dropped_total{cause=\"invalid-hello\"}";
    wait_until("they are counted", || gateway.monitor("/metrics").value(invalid) >= 3.0);
    another_works(&gateway);
}

/// Fragments of a ClientKeyExchange that overlap, contradict each other, announce 16 MB or never end.
#[test]
fn handshake_fragments_that_never_end_are_bounded() {
    let limits = "handshake-seconds = 2\nfailed-handshakes-per-minute = 100";
    let gateway = Setup::new().with_coap().with("limits", limits).with_metrics().start();
    // The ServerHelloDone has the number 1 or 2, so the client's message has 2.
    let overlapping = [(0, 20), (10, 20), (0, 38), (37, 1), (5, 1), (0, 20)];
    let overlapping = overlapping.map(|(offset, length)| (38, offset, length));
    let endless = [(0xFF_FFFF, 0, 1000), (0xFF_FFFF, 0xFF_FF00, 200), (0xFF_FFFF, 1000, 1000)];
    let contradicting = [(38, 0, 10), (60, 10, 10), (4, 2, 2), (4, 3, 200), (0, 0, 0)];
    let mut before = 0;
    for round in 0..4 {
        for forms in [&overlapping[..], &endless, &contradicting] {
            let socket = begin_handshake(&gateway);
            for sequence in 2..200u64 {
                for (length, offset, of) in forms {
                    let message = 1 + u16::try_from(sequence % 4).unwrap();
                    let content = vec![sequence.to_le_bytes()[0]; *of];
                    let part = fragment(16, *length, message, *offset, &content);
                    socket.send(&record(22, 0, sequence, &part)).unwrap();
                }
            }
            another_works(&gateway);
        }
        if round == 0 {
            before = resident(&gateway);
        }
    }
    let grown = resident(&gateway).saturating_sub(before);
    assert!(grown < 10 << 10, "{grown} KiB");
    wait_until("each of the handshakes ends", || {
        let metrics = gateway.monitor("/metrics");
        let ended =
            |cause: &str| metrics.value(&format!("saegis_handshakes_total{{outcome=\"{cause}\"}}"));
        ["timeout", "protocol", "connection", "malformed-identity"].map(ended).iter().sum::<f64>()
            >= 12.0
    });
}

/// Records of the epoch of the handshake, of later epochs and with far sequence numbers neither end an
/// association nor close the window for its own records.
#[test]
fn records_of_other_epochs_have_no_effect() {
    let gateway = Setup::new().with_coap().start();
    let mut light = connect(&gateway);
    works(&mut light);
    let hello_request = fragment(0, 0, 0, 0, &[]);
    let last = (1 << 48) - 1;
    for epoch in [0, 1, 2, 0x100, u16::MAX] {
        for sequence in [0, 1, 100, last] {
            // Warnings and fatal alerts, a message, ChangeCipherSpec, a heartbeat, a record with a
            // Connection ID.
            for (kind, content) in [
                (21, &[1, 0][..]),
                (21, &[2, 40]),
                (21, &[2, 0]),
                (22, &hello_request),
                (23, b"@\x01\0\x01"),
                (20, &[1]),
                (24, &[1, 255, 255]),
                (25, &[0; 40]),
            ] {
                light.socket().send(&record(kind, epoch, sequence, content)).unwrap();
            }
        }
        works(&mut light);
    }
    assert!(gateway.log().all(Mark::START, "association.ended", 0).is_empty());
}

/// Returns the value of Block1 with blocks of 16 bytes.
fn block1(number: u32, more: bool) -> Vec<u8> {
    let value = (number << 4 | u32::from(more) << 3).to_be_bytes();
    value[value.iter().take_while(|byte| **byte == 0).count()..].to_vec()
}

#[test]
fn blocks_that_do_not_fit_are_refused() {
    let gateway = Setup::new().with_coap().start();
    let mut light = connect(&gateway);
    register(&mut light, false);
    let create = CoapMessage::create(LAMP, OWN, 4, &json!(null)).option(REQUEST_TAG, [1]);
    let block = |number: u32, more: bool, payload: &[u8]| {
        let message = create.clone().option(BLOCK1, block1(number, more));
        CoapMessage { payload: payload.to_vec(), ..message }
    };
    let full = [b' '; 16];
    let (next, incomplete, too_large) = (0x5F, 0x88, 0x8D);
    let mut expect = |message: CoapMessage, code: u8, why: &str| {
        let answer = light.ask(&message);
        assert_eq!(answer.code, code, "{why}: {answer:?}");
    };
    // Each sequence starts again with the first block.
    for (then, why) in [
        (block(2, true, &full), "a missing block"),
        (block(0xF_FFFF, true, &full), "the last number"),
        (block(1, true, &full).without(REQUEST_TAG), "no tag"),
        (block(1, true, &full).without(12).option(12, [60]), "another Content-Format"),
        (block(1, true, &full).without(267).option(267, [3]), "another resource type"),
        (block(1, true, &full).option(11, "x"), "another path"),
        (block(1, true, &full).without(283).option(283, "other"), "another identifier"),
        (CoapMessage { code: 3, ..block(1, true, &full) }, "another method"),
    ] {
        expect(block(0, true, &full), next, why);
        expect(then, incomplete, why);
    }
    // A block that comes again overlaps the one before. Repetitions have the same Message ID.
    expect(block(0, true, &full), next, "first");
    expect(block(1, true, &full), next, "second");
    expect(block(1, true, b"other contents!!"), incomplete, "the same number again");
    expect(block(2, true, &full), incomplete, "after a refused block");
    for (message, code, why) in [
        (block(0, true, b"short"), 0x80, "a first block that is not full"),
        (block(0, true, &[b' '; 17]), 0x80, "a block that is too long"),
        (block(0, false, &[b' '; 17]), 0x80, "a last block that is too long"),
        (create.clone().option(BLOCK1, [0x0F]), 0x80, "the reserved size"),
        (create.clone().option(BLOCK1, [1, 2, 3, 4]), 0x80, "an option that is too long"),
        (block(0, true, &full).option(SIZE1, [0xFF; 4]), too_large, "a size of 4 GB"),
    ] {
        let answer = light.ask(&message);
        let is_refused = answer.code == code || (code == 0x80 && answer.code == 0x82);
        assert!(is_refused, "{why}: {answer:?}");
    }
    let lamp = light.ask(&CoapMessage::retrieve(LAMP, OWN)).expect(0x45, 2000).json();
    assert_eq!(lamp["m2m:cnt"]["cni"], 0);
}

/// Thousands of transfers that are started and abandoned stay within the memory for transfers.
#[test]
fn abandoned_transfers_are_bounded() {
    const TRANSFERS: u16 = 2000;
    let gateway = Setup::new().with_coap().start();
    let mut light = connect(&gateway);
    register(&mut light, false);
    let mut before = 0;
    for tag in 0..TRANSFERS {
        // Blocks of 1024 bytes.
        let first = CoapMessage::create(LAMP, OWN, 4, &json!(null)).option(BLOCK1, [0x0E]);
        let first = first.option(REQUEST_TAG, tag.to_be_bytes());
        let answer = light.ask(&CoapMessage { payload: vec![b' '; 1024], ..first });
        assert_eq!(answer.code, 0x5F, "{answer:?}");
        if tag == 500 {
            before = resident(&gateway);
        }
    }
    let grown = resident(&gateway).saturating_sub(before);
    assert!(grown < 2048, "{grown} KiB");
    let cin = json!({"m2m:cin": {"con": "on"}});
    light.ask(&CoapMessage::create(LAMP, OWN, 4, &cin)).expect(0x41, 2001);
}

/// The address of a device changes while its request is carried out, as behind a NAT. The response
/// goes to the former address, and the device connects again.
#[test]
fn device_changes_port_during_request() {
    let upstream = Upstream::start(Reply::Pending);
    let gateway = Setup::new().with_coap().upstream(upstream.port()).start();
    let mut light = connect(&gateway);
    let request = CoapMessage {
        id: light.id(),
        token: vec![9],
        ..CoapMessage::retrieve(&format!("{CSE}/nothing"), OWN)
    };
    light.send(&request);
    assert_eq!(light.receive(BOUND).unwrap().unwrap().kind, 2);
    upstream.wait(1);
    let former = light.socket().try_clone().unwrap();
    light.change_port(udp_socket(gateway.coap_port()));
    // Repetitions from the new port get no answer, and are not carried out.
    light.send(&request);
    let mut again = connect(&gateway);
    upstream.reply_with(Reply::answer(404, 4004, "{}"));
    works(&mut again);
    assert_eq!(upstream.requests().len(), 2, "{}", upstream.text());
    assert_eq!(light.receive(Duration::from_millis(500)).unwrap(), None);
    // The response was sent to the former port, until it is acknowledged.
    light.change_port(former);
    let response = light.receive(BOUND).unwrap().unwrap();
    assert_eq!((response.kind, &*response.token), (0, &[9][..]));
    light.acknowledge(&response);
    works(&mut again);
}

/// A device sleeps for longer than the idle time. Its association is gone, and it connects again from
/// the same port. A notification has waited for it.
#[test]
fn device_returns_after_idle_time() {
    let gateway = Setup::new().with_coap().with("coap", "idle-seconds = 2").with_metrics().start();
    let mut light = connect(&gateway);
    register(&mut light, true);
    let ended = gateway.log().wait("association.ended");
    assert_eq!(ended.text("why"), "idle");
    gateway.switch_light1("on");
    // The device knows nothing of it, and has lost the alert.
    let request = CoapMessage { id: light.id(), ..CoapMessage::retrieve(LAMP, OWN) };
    light.send(&request);
    let dropped = "saegis_datagrams_dropped_total{cause=\"unknown-address\"}";
    wait_until("it is dropped", || gateway.monitor("/metrics").value(dropped) >= 1.0);
    let socket = light.socket().try_clone().unwrap();
    let mut light = CoapLight::over(socket, LIGHT1, CCM_8, BOUND).unwrap();
    let notified = light.receive(BOUND).unwrap().expect("a notification");
    assert_eq!(notified.json()["m2m:sgn"]["nev"]["rep"]["m2m:cin"]["con"], "on");
    light.ask(&CoapMessage::retrieve(LAMP, OWN)).expect(0x45, 2000);
}

/// The gateway is killed and starts again. A device that does not know of it gets no answer within its
/// former association, and connects again from the same port.
#[test]
fn device_returns_after_gateway_was_killed() {
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let listen = format!("listen = \"127.0.0.1:{port}\"");
    let gateway = Setup::new().with("coap", &listen).with_metrics().start();
    let mut light = connect(&gateway);
    register(&mut light, false);
    let gateway = gateway.kill_and_restart();
    let request = CoapMessage { id: light.id(), ..CoapMessage::retrieve(LAMP, OWN) };
    light.send(&request);
    let dropped = "saegis_datagrams_dropped_total{cause=\"unknown-address\"}";
    wait_until("it is dropped", || gateway.monitor("/metrics").value(dropped) >= 1.0);
    assert_eq!(light.receive(Duration::from_millis(300)).unwrap(), None);
    let socket = light.socket().try_clone().unwrap();
    let mut light = CoapLight::over(socket, LIGHT1, CCM_8, BOUND).unwrap();
    light.ask(&CoapMessage::retrieve(LAMP, OWN)).expect(0x45, 2000);
}
