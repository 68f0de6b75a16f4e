//! Bad WebSocket input: handshakes, frames, sizes, and peers that fall silent.

use std::io::{Read as _, Write as _};

use saegis_tests::{Gateway, LIGHT1, Light, Request, Setup, WebSocket, wait_until};
use serde_json::json;
use tungstenite::Message;
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};

const OWN: &str = "Clight-AE1";
const JSON: (&str, &str) = ("Sec-WebSocket-Protocol", "oneM2M.json");
const CBOR: (&str, &str) = ("Sec-WebSocket-Protocol", "oneM2M.cbor");

fn open(gateway: &Gateway, subprotocol: (&str, &str)) -> WebSocket {
    Light::connect(gateway.port(), LIGHT1).unwrap().websocket(&[subprotocol]).unwrap()
}

/// The gateway goes on serving.
fn assert_serves(gateway: &Gateway) {
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    light.ask(&Request::retrieve("/cse/nothing").from(OWN)).unwrap().expect(404, 4004);
}

/// Returns the resident memory of the gateway in KiB, without pages of files.
fn resident(gateway: &Gateway) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
}

/// Writes bytes below the frames.
fn write_raw(light: &mut WebSocket, bytes: &[u8]) {
    light.stream().write_all(bytes).unwrap();
}

#[test]
fn handshakes_without_known_subprotocol_are_refused() {
    let gateway = Setup::new().start();
    for fields in [
        &[][..],
        &[("Sec-WebSocket-Protocol", "oneM2M.xml")],
        &[("Sec-WebSocket-Protocol", "")],
        &[("Sec-WebSocket-Protocol", "mqtt, oneM2M")],
        &[JSON, ("Origin", "https://evil.example")],
        &[JSON, ("Sec-WebSocket-Key", "another")],
        &[JSON, ("Content-Length", "2")],
    ] {
        let light = Light::connect(gateway.port(), LIGHT1).unwrap();
        let refused = light.websocket(fields).err().unwrap();
        let expected = if fields.iter().any(|f| f.0 == "Origin") { 403 } else { 400 };
        assert_eq!(refused.status(), expected, "{fields:?}");
        assert!(!refused.debug().is_empty());
    }
    for offered in ["ONEM2M.json", "oneM2M.xml, oneM2M.R2.0.cbor", "oneM2M.r2.0.JSON"] {
        let light = Light::connect(gateway.port(), LIGHT1).unwrap();
        let extension = ("Sec-WebSocket-Extensions", "permessage-deflate");
        let opened = light.websocket(&[("Sec-WebSocket-Protocol", offered), extension]).unwrap();
        let chosen = offered.rsplit(", ").next();
        assert_eq!(opened.opening().header("sec-websocket-protocol"), chosen);
        assert_eq!(opened.opening().header("sec-websocket-extensions"), None);
    }
    assert_serves(&gateway);
}

#[test]
fn frames_of_other_subprotocol_close_with_1003() {
    let gateway = Setup::new().start();
    let mut light = open(&gateway, JSON);
    light.send(Message::binary(b"{}".to_vec())).unwrap();
    light.expect_closed(1003);
    let mut light = open(&gateway, CBOR);
    light.send_text("{}");
    light.expect_closed(1003);
    assert_serves(&gateway);
}

#[test]
fn bad_frames_close_connection_with_1002() {
    let gateway = Setup::new().start();
    for bytes in [
        // Not masked, compressed (RSV1), a reserved opcode, a continuation of nothing.
        &b"\x81\x02{}"[..],
        b"\xc1\x82\0\0\0\0{}",
        b"\x83\x82\0\0\0\0{}",
        b"\x80\x82\0\0\0\0{}",
        // A control frame that is fragmented, one that is too large, a reserved one.
        b"\x09\x80\0\0\0\0",
        b"\x89\xfe\x00\x7e\0\0\0\0",
        b"\x8b\x80\0\0\0\0",
        // A new message within another.
        b"\x01\x81\0\0\0\0{\x81\x81\0\0\0\0}",
    ] {
        let mut light = open(&gateway, JSON);
        let mut bytes = bytes.to_vec();
        if bytes.starts_with(b"\x89\xfe") {
            bytes.extend_from_slice(&[0; 126]);
        }
        write_raw(&mut light, &bytes);
        light.expect_closed(1002);
    }
    let mut light = open(&gateway, JSON);
    write_raw(&mut light, b"\x81\x82\0\0\0\0\xff\xff");
    light.expect_closed(1007);
    assert_serves(&gateway);
}

#[test]
fn large_messages_close_connection_with_1009() {
    let gateway = Setup::new().start();
    // 100 MB are announced, and none of them is sent.
    let mut light = open(&gateway, JSON);
    write_raw(&mut light, b"\x81\xff\0\0\0\0\x06\x40\0\0\0\0\0\0");
    light.expect_closed(1009);
    // Fragments without end.
    let mut light = open(&gateway, JSON);
    let fragment = vec![b' '; 16 << 10];
    let mut opcode = OpCode::Data(Data::Text);
    for _ in 0..100 {
        let frame = Frame::message(fragment.clone(), opcode, false);
        if light.send(Message::Frame(frame)).is_err() {
            break;
        }
        opcode = OpCode::Data(Data::Continue);
    }
    // Data in transit may reset the connection before the close frame is read.
    let close = light.closed();
    assert!(close.is_none_or(|frame| frame.code == CloseCode::Size));
    let ended = gateway.log().wait("association.ended");
    assert_eq!(ended.text("why"), "message too large");
    assert_serves(&gateway);
}

/// A client that goes on sending in spite of the limit costs no memory.
#[test]
fn message_of_100_mb_is_not_stored() {
    const PART: usize = 16 << 10;
    let gateway = Setup::new().start();
    let text = [b' '; PART];
    let in_one_frame = (&b"\x81\xff\0\0\0\0\x06\x40\0\0\0\0\0\0"[..], &b""[..]);
    // The first fragment is empty.
    let in_fragments = (&b"\x01\x80\0\0\0\0"[..], &b"\x00\xfe\x40\x00\0\0\0\0"[..]);
    for (start, header) in [in_one_frame, in_fragments] {
        let mut light = open(&gateway, JSON);
        let (before, mark) = (resident(&gateway), gateway.log().mark());
        write_raw(&mut light, start);
        let part = [header, &text[..]].concat();
        let _ = (0..6400).all(|_| light.stream().write_all(&part).is_ok());
        let ended = gateway.log().wait_after(mark, "association.ended");
        assert_eq!(ended.text("why"), "message too large");
        let grown = resident(&gateway).saturating_sub(before);
        assert!(grown < 8 << 10, "{grown} KiB");
    }
    assert_serves(&gateway);
}

#[test]
fn message_that_does_not_come_whole_ends_connection() {
    // With pings that keep the connection alive, and with none before the timeout.
    for ping in ["ping-seconds = 1", "ping-seconds = 60"] {
        let setup = Setup::new().with("limits", "content-seconds = 1").with("websocket", ping);
        let gateway = setup.start();
        let mut light = open(&gateway, JSON);
        let frame = Frame::message(b"{".to_vec(), OpCode::Data(Data::Text), false);
        light.send(Message::Frame(frame)).unwrap();
        light.expect_closed(1008);
        let ended = gateway.log().wait("association.ended");
        assert_eq!(ended.text("why"), "the message did not come in time");
    }
}

#[test]
fn empty_fragments_without_end_close_with_1008() {
    let gateway = Setup::new().with("limits", "content-seconds = 1").start();
    let mut light = open(&gateway, JSON);
    write_raw(&mut light, b"\x01\x80\0\0\0\0");
    let fragments = b"\x00\x80\0\0\0\0".repeat(100);
    wait_until("the end of the connection", || light.stream().write_all(&fragments).is_err());
    let ended = gateway.log().wait("association.ended");
    assert_eq!(ended.text("why"), "the message did not come in time");
    assert_serves(&gateway);
}

#[test]
fn fragments_around_pings_are_one_primitive() {
    let gateway = Setup::new().start();
    let mut light = open(&gateway, JSON);
    let text = json!({"op": 2, "to": "cse/nothing", "fr": OWN, "rqi": "r", "rvi": "3"}).to_string();
    let mut opcode = OpCode::Data(Data::Text);
    for byte in text.bytes() {
        light.send(Message::Frame(Frame::message(vec![byte], opcode, false))).unwrap();
        light.send(Message::Ping(vec![byte].into())).unwrap();
        opcode = OpCode::Data(Data::Continue);
    }
    light.send(Message::Frame(Frame::message(Vec::new(), opcode, true))).unwrap();
    let response = light.primitive();
    assert_eq!((&response["rsc"], &response["rqi"]), (&json!(4004), &json!("r")));
}

#[test]
fn silent_peer_is_found_by_ping() {
    let gateway = Setup::new().with("websocket", "ping-seconds = 1").start();
    // This client answers pings only when it reads, and this one does not.
    let light = open(&gateway, JSON);
    let ended = gateway.log().wait("association.ended");
    assert_eq!(ended.text("why"), "no pong");
    drop(light);
    // One that answers stays for many times that long.
    let mut light = open(&gateway, JSON);
    for _ in 0..4 {
        assert!(matches!(light.read_any(), Ok(Message::Ping(_))));
    }
    light.expect(json!({"op": 2, "to": "cse/nothing", "fr": OWN}), 4004);
}

#[test]
fn idle_connection_is_closed() {
    let gateway = Setup::new().with("websocket", "idle-seconds = 1").start();
    let mut light = open(&gateway, JSON);
    light.expect_closed(1000);
}

#[test]
fn ping_flood_is_answered_and_hinders_nobody() {
    let gateway = Setup::new().start();
    let mut light = open(&gateway, JSON);
    let pings = b"\x89\x80\0\0\0\0".repeat(20_000);
    write_raw(&mut light, &pings);
    assert_serves(&gateway);
    light.expect(json!({"op": 2, "to": "cse/nothing", "fr": OWN}), 4004);
}

#[test]
fn pongs_that_are_not_read_are_bounded() {
    let gateway = Setup::new().start();
    let socket = std::net::TcpStream::connect(("127.0.0.1", gateway.port())).unwrap();
    let second = std::time::Duration::from_secs(1);
    let light = Light::over(socket, LIGHT1, second).unwrap();
    let mut light = light.websocket(&[JSON]).unwrap();
    let ping = [&b"\x89\xfd\0\0\0\0"[..], &[b'x'; 125]].concat();
    let pings = ping.repeat(100);
    let before = resident(&gateway);
    // 50 MB at most. The gateway ends the connection when the pongs do not fit into its buffer.
    let ends = (0..4000).any(|_| light.stream().write_all(&pings).is_err());
    assert!(ends, "the gateway goes on reading");
    gateway.log().wait("association.ended");
    let grown = resident(&gateway).saturating_sub(before);
    assert!(grown < 16 << 10, "{grown} KiB");
    assert_serves(&gateway);
}

/// A message behind the close frame is not executed.
#[test]
fn request_after_close_frame_is_not_executed() {
    let gateway = Setup::new().start();
    let mut http = Light::connect(gateway.port(), LIGHT1).unwrap();
    http.ask(&Request::create_ae("light1").from(OWN)).unwrap().expect(201, 2001);
    http.ask(&Request::create_container("/cse/light1", "lamp").from(OWN))
        .unwrap()
        .expect(201, 2001);
    let mut light = open(&gateway, JSON);
    let instance = json!({"op": 1, "to": "cse/light1/lamp", "fr": OWN, "rqi": "r", "rvi": "3",
        "ty": 4, "pc": {"m2m:cin": {"con": "on"}}});
    let text = instance.to_string();
    let length = u8::try_from(text.len()).unwrap();
    let head = [&b"\x88\x82\0\0\0\0\x03\xe8\x81\xfe\0"[..], &[length], &[0; 4]].concat();
    write_raw(&mut light, &[&head, text.as_bytes()].concat());
    light.expect_closed(1000);
    let lamp = http.ask(&Request::retrieve("/cse/light1/lamp").from(OWN)).unwrap();
    assert_eq!(lamp.expect(200, 2000).json()["m2m:cnt"]["cni"], 0);
}

#[test]
fn close_codes_are_answered() {
    let gateway = Setup::new().start();
    for (code, answered) in [(1000, 1000), (1001, 1001), (3000, 3000), (1005, 1002), (999, 1002)] {
        let mut light = open(&gateway, JSON);
        let [high, low] = u16::to_be_bytes(code);
        write_raw(&mut light, &[0x88, 0x82, 0, 0, 0, 0, high, low]);
        light.expect_closed(answered);
    }
    // A code of one byte, and a reason that is not UTF-8.
    for (frame, answered) in
        [(&b"\x88\x81\0\0\0\0\x03"[..], 1002), (b"\x88\x84\0\0\0\0\x03\xe8\xff\xff", 1007)]
    {
        let mut light = open(&gateway, JSON);
        write_raw(&mut light, frame);
        light.expect_closed(answered);
    }
    let mut light = open(&gateway, JSON);
    let frame = CloseFrame { code: CloseCode::Normal, reason: "bye".into() };
    light.send(Message::Close(Some(frame))).unwrap();
    light.expect_closed(1000);
    // A cut without a close frame ends the association too.
    let mut light = open(&gateway, JSON);
    light.stream().get_ref().shutdown(std::net::Shutdown::Write).unwrap();
    let mut rest = Vec::new();
    let _ = light.stream().read_to_end(&mut rest);
    assert_serves(&gateway);
}

#[test]
fn bad_primitives_are_refused_and_connection_goes_on() {
    let gateway = Setup::new().start();
    let mut light = open(&gateway, JSON);
    for text in [
        "",
        "x",
        "{}",
        "[]",
        r#"{"op":2,"to":"cse"}"#,
        r#"{"op":2,"to":"cse","rqi":"r","rqi":"s"}"#,
        r#"{"op":9,"to":"cse","rqi":"r"}"#,
        r#"{"m2m:rqp":{"op":2,"to":"cse","rqi":"r"}}"#,
        &"[".repeat(10_000),
    ] {
        light.send_text(text);
        assert_eq!(light.primitive()["rsc"], 4000, "{text}");
    }
    // Two requests with one identifier are answered in some order, one of them with a refusal or
    // both of them, but never with another's content.
    let large = "x".repeat(300 << 10);
    let create = json!({"op": 1, "to": "cse", "fr": OWN, "rqi": "big", "ty": 4,
        "pc": {"m2m:cin": {"con": "x".repeat(260 << 10)}}});
    light.send_text(&create.to_string());
    let refused = light.primitive();
    assert_eq!((&refused["rsc"], &refused["rqi"]), (&json!(4000), &json!("big")));
    light.send_text(&large);
    light.expect_closed(1009);
    assert_serves(&gateway);
}

#[test]
fn cbor_is_spoken_in_binary_frames() {
    let gateway = Setup::new().start();
    let mut light = open(&gateway, CBOR);
    // {"op": 2, "to": "cse/nothing", "fr": "Clight-AE1", "rqi": "r1", "rvi": "3"}
    let request =
        b"\xa5\x62op\x02\x62to\x6bcse/nothing\x62fr\x6aClight-AE1\x63rqi\x62r1\x63rvi\x613";
    light.send(Message::binary(request.to_vec())).unwrap();
    let Ok(Message::Binary(response)) = light.read() else { panic!("no binary message") };
    let has = |part: &[u8]| response.windows(part.len()).any(|window| window == part);
    assert!(has(b"\x63rsc\x19\x0f\xa4") && has(b"\x63rqi\x62r1"), "{response:x?}");
    // Tags have no meaning in JSON.
    light.send(Message::binary(b"\xa1\x63rqi\xc1\x01".to_vec())).unwrap();
    let Ok(Message::Binary(response)) = light.read() else { panic!("no binary message") };
    assert!(response.windows(3).any(|window| window == b"\x19\x0f\xa0"), "{response:x?}");
}

#[test]
fn many_requests_are_answered_at_a_time() {
    let gateway = Setup::new().with("websocket", "requests = 4").start();
    let mut light = open(&gateway, JSON);
    for n in 0..50 {
        let request = json!({"op": 2, "to": "cse/nothing", "fr": OWN, "rqi": n.to_string(),
            "rvi": "3"});
        light.send_text(&request.to_string());
    }
    let mut answered: Vec<u32> =
        (0..50).map(|_| light.primitive()["rqi"].as_str().unwrap().parse().unwrap()).collect();
    answered.sort_unstable();
    assert_eq!(answered, (0..50).collect::<Vec<_>>());
}
