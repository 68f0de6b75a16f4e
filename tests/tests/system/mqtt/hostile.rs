//! Bad MQTT input: packets, lengths, sizes, and clients that fall silent or do not read.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit, setrlimit};
use saegis_tests::{Gateway, LIGHT1, Light, Mqtt, Request, Setup, mqtt};
use serde_json::json;

const OWN: &str = "Clight-AE1";
const REQ: &str = "/oneM2M/req/Clight-AE1/mn-cse-123456/json";

/// The gateway goes on serving.
fn assert_serves(gateway: &Gateway) {
    let mut light = Mqtt::connect(gateway.mqtt_port(), LIGHT1, "still");
    assert_eq!(light.subscribe("/oneM2M/resp/Clight-AE1/#"), 1);
    light.expect(REQ, json!({"op": 2, "to": "cse/nothing", "fr": OWN}), 4004);
    light.disconnect();
}

/// Sends bytes after a CONNECT, and returns why the connection ends.
fn ended_after(gateway: &Gateway, bytes: &[u8]) -> String {
    let mark = gateway.log().mark();
    let mut light = Mqtt::connect(gateway.mqtt_port(), LIGHT1, "bad");
    light.try_send(bytes);
    light.expect_closed();
    gateway.log().wait_after(mark, "association.ended").text("why")
}

#[test]
fn packets_before_connect_end_connection() {
    let gateway = Setup::new().with_mqtt().start();
    for (bytes, why) in [
        (&[0xc0, 0][..], "the first packet is not CONNECT"),
        (&[0xe0, 0], "the first packet is not CONNECT"),
        (&[0x30, 3, 0, 1, b'a'], "the first packet is not CONNECT"),
        (&[0x20, 2, 0, 0], "the first packet is not CONNECT"),
        // 256 MB are announced.
        (&[0x10, 0xff, 0xff, 0xff, 0x7f], "packet too large"),
        (&[0x10, 0xff, 0xff, 0xff, 0xff, 0x7f], "bad MQTT"),
        (&[0x10, 0], "bad MQTT"),
        (&[0, 0], "bad MQTT"),
    ] {
        let mark = gateway.log().mark();
        let mut light = Mqtt::raw(gateway.mqtt_port(), LIGHT1);
        light.send(bytes);
        assert_eq!(light.read(), None, "{bytes:x?}");
        let ended = gateway.log().wait_after(mark, "association.ended");
        assert_eq!(ended.text("why"), why, "{bytes:x?}");
    }
    assert_serves(&gateway);
}

#[test]
fn connect_of_other_versions_and_with_will_is_refused() {
    let gateway = Setup::new().with_mqtt().start();
    let with_version = |name: &str, level: u8| {
        let rest = [mqtt::text(name), vec![level, 2, 0, 60], mqtt::text("lamp")].concat();
        mqtt::packet(0x10, &rest)
    };
    let will = [mqtt::text("a"), mqtt::text("gone")].concat();
    let with_will = [b"\0\x04MQTT\x04\x06\0\x3c", &mqtt::text("lamp")[..], &will].concat();
    for (connect, code) in [
        (with_version("MQTT", 5), 1),
        (with_version("MQIsdp", 3), 1),
        (with_version("MQTT", 3), 1),
        (mqtt::packet(0x10, &with_will), 5),
        (mqtt::connect(&"x".repeat(1000), 2, 60), 2),
    ] {
        let mut light = Mqtt::raw(gateway.mqtt_port(), LIGHT1);
        light.send(&connect);
        assert_eq!(light.read(), Some((0x20, vec![0, code])));
        assert_eq!(light.read(), None);
    }
    // A user name and a password are not used.
    let rest = [mqtt::text("lamp"), mqtt::text("admin"), mqtt::text("admin")].concat();
    let connect = [b"\0\x04MQTT\x04\xc2\0\x3c", &rest[..]].concat();
    let mut light = Mqtt::raw(gateway.mqtt_port(), LIGHT1);
    light.send(&mqtt::packet(0x10, &connect));
    assert_eq!(light.read(), Some((0x20, vec![0, 0])));
}

#[test]
fn bad_packets_end_connection() {
    let gateway = Setup::new().with_mqtt().start();
    let retained = mqtt::packet(0x31, &[&mqtt::text(REQ)[..], b"{}"].concat());
    let exactly_once = mqtt::packet(0x34, &[&mqtt::text(REQ)[..], b"\0\x01{}"].concat());
    for (bytes, why) in [
        (&mqtt::connect("bad", 2, 60)[..], "second CONNECT"),
        (&[0xd0, 0], "a packet of a server"),
        (&[0x90, 3, 0, 1, 0], "a packet of a server"),
        (&[0xc0, 1, 0], "bad MQTT"),
        (&[0xc1, 0], "bad MQTT"),
        (&[0xf0, 0], "bad MQTT"),
        (&[0x40, 2, 0, 0], "bad MQTT"),
        (&[0x82, 2, 0, 1], "bad MQTT"),
        (&[0x80, 6, 0, 1, 0, 1, b'a', 0], "bad MQTT"),
        (&[0x82, 6, 0, 1, 0, 1, b'a', 3], "bad MQTT"),
        (&[0x82, 7, 0, 1, 0, 2, b'a', b'#', 0], "bad MQTT"),
        (&[0x82, 6, 0, 1, 0, 1, 0, 0], "bad MQTT"),
        // Topics with wildcards, with U+0000, and that are not UTF-8.
        (&mqtt::publish("/oneM2M/req/+/mn-cse-123456/json", None, b"{}"), "bad MQTT"),
        (&mqtt::publish("/oneM2M/req/Clight-AE1/#", None, b"{}"), "bad MQTT"),
        (&mqtt::publish("/oneM2M/req/Clight-AE1\0/mn-cse-123456/json", None, b"{}"), "bad MQTT"),
        (&[0x30, 4, 0, 2, 0xc3, 0x28], "bad MQTT"),
        (&[0x30, 3, 0, 9, b'a'], "bad MQTT"),
        (&[0x30, 0xff, 0xff, 0xff, 0x7f], "packet too large"),
        (&retained, "retained messages are not supported"),
        (&exactly_once, "Quality of Service 2 is not supported"),
        (&[0x62, 2, 0, 1], "Quality of Service 2 is not supported"),
    ] {
        assert_eq!(ended_after(&gateway, bytes), why, "{bytes:x?}");
    }
    assert_serves(&gateway);
}

#[test]
fn bad_primitives_are_refused_and_mqtt_connection_goes_on() {
    let gateway = Setup::new().with_mqtt().start();
    let mut light = Mqtt::connect(gateway.mqtt_port(), LIGHT1, "A::Clight-AE1");
    assert_eq!(light.subscribe("/oneM2M/resp/Clight-AE1/#"), 1);
    for text in [
        "",
        "x",
        "{}",
        "[]",
        r#"{"op":2,"to":"cse"}"#,
        r#"{"op":2,"to":"cse","rqi":"r","rqi":"s"}"#,
        r#"{"op":9,"to":"cse","rqi":"r"}"#,
        r#"{"rsc":2000,"rqi":"r"}"#,
        &"[".repeat(10_000),
    ] {
        light.send(&mqtt::publish(REQ, None, text.as_bytes()));
        assert_eq!(light.message().1["rsc"], 4000, "{text}");
    }
    let create = json!({"op": 1, "to": "cse", "fr": OWN, "rqi": "big", "ty": 4,
        "pc": {"m2m:cin": {"con": "x".repeat(260 << 10)}}});
    light.publish(REQ, &create);
    let (_, refused) = light.message();
    assert_eq!((&refused["rsc"], &refused["rqi"]), (&json!(4000), &json!("big")));
    light.try_send(&mqtt::publish(REQ, None, &vec![b' '; 400 << 10]));
    light.expect_closed();
    assert_serves(&gateway);
}

#[test]
fn silent_clients_are_disconnected() {
    let gateway = Setup::new()
        .with_mqtt()
        .with("mqtt", "idle-seconds = 1")
        .with("limits", "content-seconds = 2")
        .start();
    let port = gateway.mqtt_port();
    for (keep_alive, why) in
        [(1, "no packet within the keep alive"), (0, "no packet within the keep alive")]
    {
        let mark = gateway.log().mark();
        let mut light = Mqtt::raw(port, LIGHT1);
        light.send(&mqtt::connect("lamp", 2, keep_alive));
        light.expect_closed();
        assert_eq!(gateway.log().wait_after(mark, "association.ended").text("why"), why);
    }
    // No CONNECT, and a packet that does not come whole.
    let mark = gateway.log().mark();
    let mut light = Mqtt::raw(port, LIGHT1);
    light.expect_closed();
    let ended = gateway.log().wait_after(mark, "association.ended");
    assert_eq!(ended.text("why"), "no CONNECT in time");
    let mark = gateway.log().mark();
    let mut light = Mqtt::connect(port, LIGHT1, "lamp");
    light.send(&[0x30, 100, 0]);
    light.expect_closed();
    let ended = gateway.log().wait_after(mark, "association.ended");
    assert_eq!(ended.text("why"), "the packet did not come in time");
    // A client that sends PINGREQ stays for longer than its keep alive.
    let mut light = Mqtt::raw(port, LIGHT1);
    light.send(&mqtt::connect("lamp", 2, 1));
    assert_eq!(light.read(), Some((0x20, vec![0, 0])));
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(3) {
        light.send(&[0xc0, 0]);
        assert_eq!(light.read(), Some((0xd0, Vec::new())));
    }
}

/// The client is not read from while its only request is in progress, and is timed again afterwards.
#[test]
fn silent_client_is_disconnected_after_requests_at_limit() {
    let gateway = Setup::new().with_mqtt().with("mqtt", "requests = 1").start();
    let mut light = Mqtt::raw(gateway.mqtt_port(), LIGHT1);
    light.send(&mqtt::connect("lamp", 2, 1));
    assert_eq!(light.read(), Some((0x20, vec![0, 0])));
    light.send(&[0xc0, 0]);
    assert_eq!(light.read(), Some((0xd0, Vec::new())));
    light.expect_closed();
    let ended = gateway.log().wait("association.ended");
    assert_eq!(ended.text("why"), "no packet within the keep alive");
}

/// A subscriber that never reads is disconnected, and hinders nobody.
#[test]
fn client_that_does_not_read_is_disconnected() {
    let gateway = Setup::new().with_mqtt().with("limits", "response-seconds = 1").start();
    let mut http = Light::connect(gateway.port(), LIGHT1).unwrap();
    let ask = |http: &mut Light, request: Request| {
        http.ask(&request.from(OWN)).unwrap().expect(201, 2001);
    };
    ask(&mut http, Request::create_ae("light1"));
    ask(&mut http, Request::create_container("/cse/light1", "lamp"));
    ask(&mut http, Request::create_instance("/cse/light1/lamp", &"x".repeat(15 << 10)));
    let socket = TcpStream::connect(("127.0.0.1", gateway.mqtt_port())).unwrap();
    let light = Light::over(socket, LIGHT1, Duration::from_secs(20)).unwrap();
    let mut light = Mqtt::over(light);
    light.send(&mqtt::connect("A::Clight-AE1", 2, 60));
    assert_eq!(light.read(), Some((0x20, vec![0, 0])));
    assert_eq!(light.subscribe("/oneM2M/resp/Clight-AE1/#"), 1);
    for n in 0..2000 {
        let request = json!({"op": 2, "to": "cse/light1/lamp/la", "fr": OWN, "rvi": "3",
            "rqi": n.to_string()});
        if !light.try_send(&mqtt::publish(REQ, None, request.to_string().as_bytes())) {
            break;
        }
    }
    let ended = gateway.log().wait("association.ended");
    assert_eq!(ended.text("why"), "answer not read");
    assert_serves(&gateway);
}

/// A client that acknowledges nothing is disconnected, in either direction.
#[test]
fn messages_without_puback_are_bounded() {
    let gateway = Setup::new().with_mqtt().start();
    let mut light = Mqtt::connect(gateway.mqtt_port(), LIGHT1, "A::Clight-AE1");
    assert_eq!(light.subscribe("/oneM2M/resp/Clight-AE1/#"), 1);
    let mut answered = 0;
    for n in 0..400_u16 {
        let request = json!({"op": 2, "to": "cse/nothing", "fr": OWN, "rvi": "3",
            "rqi": n.to_string()});
        if !light.try_send(&mqtt::publish(REQ, Some(n + 1), request.to_string().as_bytes())) {
            break;
        }
        match light.read() {
            Some((first, _)) if first & 0xf0 == 0x30 => answered += 1,
            Some(other) => panic!("{other:?}"),
            None => break,
        }
    }
    assert_eq!(answered, 256);
    let ended = gateway.log().wait("association.ended");
    assert_eq!(ended.text("why"), "too many messages are not acknowledged");
    assert_serves(&gateway);
}

#[test]
fn pingreq_flood_is_answered_and_hinders_nobody() {
    let gateway = Setup::new().with_mqtt().start();
    let mut light = Mqtt::connect(gateway.mqtt_port(), LIGHT1, "flood");
    let pings = [0xc0, 0].repeat(5000);
    light.send(&pings);
    assert_serves(&gateway);
    for _ in 0..5000 {
        assert_eq!(light.read(), Some((0xd0, Vec::new())));
    }
}

#[test]
fn many_idle_clients_are_served() {
    idle_clients_are_served(300);
}

#[test]
#[ignore = "needs 10,000 file descriptors; cargo xtask load runs it"]
fn load_of_ten_thousand_idle_clients() {
    idle_clients_are_served(10_000);
}

/// Holds sessions, of which each is then served.
fn idle_clients_are_served(count: u64) {
    let mut files = getrlimit(Resource::Nofile);
    files.current = Some(count + 500);
    setrlimit(Resource::Nofile, files).expect("the limit of open files can be raised");
    let gateway = Setup::new()
        .with_mqtt()
        .with("limits", &format!("associations-per-credential = {count}"))
        .with("limits", &format!("connections = {}", count + 1))
        .with("limits", "handshakes-per-peer = 1000")
        .start();
    let port = gateway.mqtt_port();
    let mut clients: Vec<_> =
        (0..count).map(|n| Mqtt::connect(port, LIGHT1, &format!("lamp-{n}"))).collect();
    for client in &mut clients {
        client.send(&[0xc0, 0]);
        assert_eq!(client.read(), Some((0xd0, Vec::new())));
    }
}

/// A packet with many filters ends its connection. Each refused filter would cost work and memory.
#[test]
fn packet_with_many_filters_ends_connection() {
    let gateway = Setup::new().with_mqtt().start();
    let other = mqtt::text("/oneM2M/resp/Clight-AE2/#");
    let subscribe = |count| {
        let topics = [&other[..], &[1]].concat().repeat(count);
        mqtt::packet(0x82, &[&[0, 1], &topics[..]].concat())
    };
    let unsubscribe = mqtt::packet(0xa2, &[&[0, 1], &other.repeat(33)[..]].concat());
    for packet in [subscribe(33), subscribe(9000), unsubscribe] {
        assert_eq!(ended_after(&gateway, &packet), "too many filters in a packet");
    }
    let mut light = Mqtt::connect(gateway.mqtt_port(), LIGHT1, "lamp");
    light.send(&subscribe(32));
    assert_eq!(light.read(), Some((0x90, [vec![0, 1], vec![0x80; 32]].concat())));
}

/// Messages that are acknowledged after an earlier one do not keep the gateway from reading.
#[test]
fn delayed_puback_does_not_stall_connection() {
    let gateway = Setup::new().with_mqtt().with("mqtt", "requests = 4").start();
    let mut light = Mqtt::connect(gateway.mqtt_port(), LIGHT1, "A::Clight-AE1");
    assert_eq!(light.subscribe("/oneM2M/resp/Clight-AE1/#"), 1);
    let request = json!({"op": 2, "to": "cse/nothing", "fr": OWN, "rqi": "first", "rvi": "3"});
    light.send(&mqtt::publish(REQ, Some(1), request.to_string().as_bytes()));
    let (_, id, _) = mqtt::parts(&light.read().unwrap());
    // Responses to nothing are acknowledged after the request, which waits for the PUBACK.
    let response = json!({"rsc": 2000, "rqi": "none", "rvi": "3"}).to_string();
    let topic = "/oneM2M/resp/mn-cse-123456/Clight-AE1/json";
    for n in 2..20 {
        light.send(&mqtt::publish(topic, Some(n), response.as_bytes()));
    }
    light.send(&[&[0x40, 2], &id.unwrap().to_be_bytes()[..]].concat());
    for n in 1..20_u16 {
        assert_eq!(light.read(), Some((0x40, n.to_be_bytes().to_vec())));
    }
}
