//! Lost, repeated, reordered and truncated datagrams.

use std::collections::HashSet;
use std::time::Duration;

use saegis_tests::{
    BOUND, CCM_8, CoapLight, CoapMessage, Faults, Gateway, LIGHT1, LossyRelay, Mark, Setup,
    udp_socket,
};
use serde_json::json;

const OWN: &str = "Clight-AE1";
const LAMP: &str = "~/mn-cse-123456/cse/light1/lamp";

fn with_lamp() -> (Gateway, CoapLight) {
    let gateway = Setup::new().with_coap().start();
    let mut light = CoapLight::connect(gateway.coap_port(), LIGHT1).unwrap();
    let ae = json!({"m2m:ae": {"rn": "light1", "api": "Nlight", "rr": false}});
    light.ask(&CoapMessage::create("~/mn-cse-123456/cse", OWN, 2, &ae)).expect(0x41, 2001);
    let lamp = json!({"m2m:cnt": {"rn": "lamp"}});
    let to = "~/mn-cse-123456/cse/light1";
    light.ask(&CoapMessage::create(to, OWN, 3, &lamp)).expect(0x41, 2001);
    (gateway, light)
}

fn instance(value: &str) -> CoapMessage {
    let cin = json!({"m2m:cin": {"con": value}});
    CoapMessage::create(LAMP, OWN, 4, &cin)
}

fn instances(light: &mut CoapLight) -> u64 {
    let lamp = light.ask(&CoapMessage::retrieve(LAMP, OWN)).expect(0x45, 2000).json();
    lamp["m2m:cnt"]["cni"].as_u64().unwrap()
}

/// With 20 % loss, 10 % repetitions and reordering, each request is answered, and carried out once.
#[test]
fn each_request_is_carried_out_once_over_a_bad_network() {
    const REQUESTS: u64 = 40;
    let (gateway, mut light) = with_lamp();
    let faults = Faults { lost: 20, repeated: 10, late: 10 };
    let relay = LossyRelay::start(gateway.coap_port(), faults, 77);
    let socket = udp_socket(relay.port());
    let mut other = CoapLight::over(socket, LIGHT1, CCM_8, BOUND).unwrap();
    let mut names = HashSet::new();
    for n in 0..REQUESTS {
        let created = other.ask(&instance(&n.to_string())).expect(0x41, 2001).json();
        let name = created["m2m:cin"]["rn"].as_str().unwrap().to_string();
        assert!(names.insert(name), "{n}: {created}");
    }
    assert_eq!(instances(&mut light), REQUESTS);
}

/// A repeated message is answered with the same bytes, and not carried out.
#[test]
fn repeated_message_is_answered_and_not_carried_out() {
    let (_gateway, mut light) = with_lamp();
    for (kind, answers) in [(0, 3), (1, 1)] {
        let before = instances(&mut light);
        let id = light.id();
        let request = CoapMessage { kind, id, token: vec![kind], ..instance("on") };
        light.send(&request);
        let mut answered = vec![light.receive(BOUND).unwrap().unwrap()];
        light.send(&request);
        light.send(&request);
        while let Some(answer) = light.receive(Duration::from_millis(800)).unwrap() {
            answered.push(answer);
        }
        assert_eq!(answered.len(), answers, "{answered:?}");
        assert!(answered.iter().all(|answer| *answer == answered[0]));
        assert_eq!(instances(&mut light), before + 1);
    }
}

/// The network repeats a datagram of DTLS. The second one is not authentic.
#[test]
fn replayed_datagram_has_no_effect() {
    let (gateway, mut light) = with_lamp();
    let faults = Faults { lost: 0, repeated: 100, late: 0 };
    let relay = LossyRelay::start(gateway.coap_port(), faults, 1);
    let mut other = CoapLight::over(udp_socket(relay.port()), LIGHT1, CCM_8, BOUND).unwrap();
    for n in 1..20 {
        other.ask(&instance("on")).expect(0x41, 2001);
        assert_eq!(instances(&mut light), n);
    }
}

/// Truncated datagrams and unknown content neither end the association nor are answered.
#[test]
fn datagrams_that_are_not_authentic_are_dropped() {
    let (gateway, mut light) = with_lamp();
    let record = |kind: u8, epoch: u8, length: usize| {
        let size = u16::try_from(length).unwrap().to_be_bytes();
        let header = [kind, 0xFE, 0xFD, 0, epoch, 0, 0, 0, 0, 1, 0, size[0], size[1]];
        [&header[..], &vec![7; length]].concat()
    };
    let port = light.socket().local_addr().unwrap().port();
    for kind in 20..26 {
        for epoch in [0, 1, 2, 255] {
            for length in [0, 1, 2, 8, 15, 16, 24, 64, 1200] {
                let whole = record(kind, epoch, length);
                light.socket().send(&whole).unwrap();
                light.socket().send(&whole[..whole.len() / 2 + 1]).unwrap();
            }
        }
        light.ask(&CoapMessage::retrieve(LAMP, OWN)).expect(0x45, 2000);
    }
    for bytes in [&b""[..], b"x", b"GET / HTTP/1.1\r\n\r\n", &[0xFF; 4000]] {
        light.socket().send(bytes).unwrap();
    }
    light.ask(&CoapMessage::retrieve(LAMP, OWN)).expect(0x45, 2000);
    assert_eq!(light.socket().local_addr().unwrap().port(), port);
    assert!(gateway.log().all(Mark::START, "association.ended", 0).is_empty());
}

/// Within an association, a message that is not one of CoAP is rejected, or dropped.
#[test]
fn malformed_messages_are_rejected() {
    let (_gateway, mut light) = with_lamp();
    let quiet = Duration::from_millis(300);
    // A token of 9 bytes, the reserved length 15, a payload marker without a payload, an option
    // that ends early, a response as a request, an empty message with a token.
    for (bytes, name) in [
        (&b"\x49\x01\x00\x01123456789"[..], "token"),
        (b"\x4F\x01\x00\x01", "token length"),
        (b"\x40\x01\x00\x01\xFF", "payload"),
        (b"\x40\x01\x00\x01\xB5ab", "option"),
        (b"\x40\x01\x00\x01\xF0", "delta"),
        (b"\x41\x00\x00\x01t", "empty"),
        (b"\x40\x00\x00\x01", "ping"),
    ] {
        light.send_bytes(bytes);
        let answer = light.receive(quiet).unwrap();
        let reset = CoapMessage { kind: 3, id: 1, ..CoapMessage::default() };
        assert_eq!(answer, Some(reset), "{name}");
    }
    for bytes in [&b"\x00\x01\x00\x01"[..], b"\x80\x01\x00\x01", b"\x50\x00\x00\x01", b"\x40", b"q"]
    {
        light.send_bytes(bytes);
        assert_eq!(light.receive(quiet).unwrap(), None, "{bytes:?}");
    }
    light.ask(&CoapMessage::retrieve(LAMP, OWN)).expect(0x45, 2000);
}

/// Blocks of abandoned requests neither stay nor block others.
#[test]
fn abandoned_blocks_do_not_hinder_others() {
    let (_gateway, mut light) = with_lamp();
    let block = |number: u8, tag: u16, payload: &[u8]| {
        let more = if payload.len() == 16 { 8 } else { 0 };
        let message = instance("x").option(27, [number << 4 | more]);
        let message = CoapMessage { payload: payload.to_vec(), ..message };
        message.option(292, tag.to_be_bytes())
    };
    for tag in 0..500 {
        assert_eq!(light.ask(&block(0, tag, &[b' '; 16])).code, 0x5F);
    }
    let content = json!({"m2m:cin": {"con": "a value that does not fit a block"}}).to_string();
    let blocks: Vec<_> = content.as_bytes().chunks(16).collect();
    for (n, payload) in blocks.iter().enumerate() {
        let answer = light.ask(&block(u8::try_from(n).unwrap(), 1000, payload));
        let is_last = n + 1 == blocks.len();
        assert_eq!(answer.code, if is_last { 0x41 } else { 0x5F }, "{n} {answer:?}");
    }
    // A block that does not follow the one before, and the block of another originator.
    assert_eq!(light.ask(&block(3, 2000, &[b' '; 16])).code, 0x88);
    assert_eq!(light.ask(&block(0, 3000, &[b' '; 16])).code, 0x5F);
    let other = block(1, 3000, b"x").without(279).option(279, "Clight-AE2");
    assert_eq!(light.ask(&other).code, 0x88);
    assert_eq!(instances(&mut light), 1);
}
