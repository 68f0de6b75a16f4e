//! Notifications within the association of an AE, which reach it behind a NAT.

use std::time::Duration;

use saegis_tests::{BOUND, CoapLight, CoapMessage, Gateway, LIGHT1, LIGHT2, Light, Setup};
use serde_json::{Value, json};

const OWN: &str = "Clight-AE1";
const CSE: &str = "~/mn-cse-123456/cse";
const REQUEST_ID: u16 = 283;
const STATUS: u16 = 307;

fn connect(gateway: &Gateway) -> CoapLight {
    CoapLight::connect(gateway.coap_port(), LIGHT1).unwrap()
}

/// A light that takes requests and has no point of access, with a subscription to its own container.
fn with_subscription() -> (Gateway, CoapLight) {
    let timeout = "timeout-seconds = 3";
    let gateway = Setup::new().with_coap().with("notifications", timeout).start();
    let mut light = connect(&gateway);
    let ae = json!({"m2m:ae": {"rn": "light1", "api": "Nlight", "rr": true, "srv": ["3"]}});
    let lamp = json!({"m2m:cnt": {"rn": "lamp"}});
    let told = json!({"m2m:sub": {"rn": "told", "nu": [OWN], "enc": {"net": [3]}}});
    for (path, ty, content) in [("", 2, ae), ("/light1", 3, lamp), ("/light1/lamp", 23, told)] {
        let create = CoapMessage::create(&format!("{CSE}{path}"), OWN, ty, &content);
        light.ask(&create).expect(0x41, 2001);
    }
    (gateway, light)
}

fn value(content: &Value) -> &Value {
    &content["m2m:sgn"]["nev"]["rep"]["m2m:cin"]["con"]
}

fn respond(light: &mut CoapLight, request: &CoapMessage) {
    let id = request.value(REQUEST_ID).expect("it has an identifier");
    let response = CoapMessage { kind: 2, code: 0x44, ..request.clone() };
    let response = CoapMessage { options: Vec::new(), payload: Vec::new(), ..response };
    let response = response.option(STATUS, 2000u16.to_be_bytes()).option(REQUEST_ID, id);
    light.send(&response.option(271, "3"));
}

#[track_caller]
fn notification(light: &mut CoapLight) -> CoapMessage {
    let request = light.receive(BOUND).unwrap().expect("a notification");
    assert_eq!((request.kind, request.code), (0, 2), "{request:?}");
    assert_eq!(request.value(279), Some(&b"/mn-cse-123456"[..]));
    request
}

#[test]
fn notifications_arrive_within_association() {
    let (gateway, mut light) = with_subscription();
    for on in ["on", "off"] {
        gateway.switch_light1(on);
        let request = notification(&mut light);
        assert_eq!(value(&request.json()), on);
        let path: Vec<_> = request.options.iter().filter(|(number, _)| *number == 11).collect();
        assert_eq!(path.len(), 3, "{path:?}");
        // A request of its own meanwhile is answered.
        let own = CoapMessage::retrieve(&format!("{CSE}/light1"), OWN);
        light.ask(&own).expect(0x45, 2000);
        respond(&mut light, &request);
    }
    assert_eq!(light.receive(Duration::from_secs(1)).unwrap(), None);
}

/// A notification that is not acknowledged is repeated with the same Message ID.
#[test]
fn notification_is_repeated_until_acknowledged() {
    let (gateway, mut light) = with_subscription();
    gateway.switch_light1("on");
    let first = notification(&mut light);
    let again = notification(&mut light);
    assert_eq!(again, first);
    respond(&mut light, &again);
    gateway.switch_light1("off");
    assert_eq!(value(&notification(&mut light).json()), "off");
}

/// It waits for a device that was switched off, and goes to the next association of its credential.
#[test]
fn notification_waits_for_next_association() {
    let (gateway, light) = with_subscription();
    light.close();
    gateway.log().wait("association.ended");
    gateway.switch_light1("on");
    // Another credential gets nothing.
    let mut other = CoapLight::connect(gateway.coap_port(), LIGHT2).unwrap();
    let nothing = CoapMessage::retrieve(&format!("{CSE}/nothing"), "Clight-AE2");
    other.ask(&nothing).expect(0x84, 4004);
    let mut light = connect(&gateway);
    let request = notification(&mut light);
    assert_eq!(value(&request.json()), "on");
    respond(&mut light, &request);
    assert_eq!(other.receive(Duration::from_millis(300)).unwrap(), None);
}

/// Of several associations of a credential, the one of the last request takes notifications: a
/// device behind a NAT has a new port, and the association of the former one does not end.
#[test]
fn association_of_last_request_takes_notifications() {
    let (gateway, mut light) = with_subscription();
    let own = CoapMessage::retrieve(&format!("{CSE}/light1"), OWN);
    let mut second = connect(&gateway);
    second.ask(&own).expect(0x45, 2000);
    gateway.switch_light1("on");
    let request = notification(&mut second);
    respond(&mut second, &request);
    light.ask(&own).expect(0x45, 2000);
    gateway.switch_light1("off");
    // The first one comes again if its response has not arrived by then.
    loop {
        let request = notification(&mut light);
        respond(&mut light, &request);
        if value(&request.json()) == "off" {
            break;
        }
    }
    assert_eq!(second.receive(Duration::from_millis(300)).unwrap(), None);
}

/// A WebSocket of the same credential takes the notifications, and is not closed by CoAP.
#[test]
fn websocket_takes_notifications_first() {
    let (gateway, mut light) = with_subscription();
    let socket = Light::connect(gateway.port(), LIGHT1).unwrap();
    let mut socket = socket.websocket(&[("Sec-WebSocket-Protocol", "oneM2M.json")]).unwrap();
    let own = CoapMessage::retrieve(&format!("{CSE}/light1"), OWN);
    light.ask(&own).expect(0x45, 2000);
    gateway.switch_light1("on");
    let request = socket.primitive();
    assert_eq!(value(&request["pc"]), "on");
    let response = json!({"rsc": 2000, "rqi": request["rqi"], "rvi": "3", "fr": OWN});
    socket.send_text(&response.to_string());
    assert_eq!(light.receive(Duration::from_millis(300)).unwrap(), None);
}

/// A notification that does not fit a datagram comes in blocks.
#[test]
fn large_notification_comes_in_blocks() {
    let (gateway, mut light) = with_subscription();
    let large = "v".repeat(3000);
    gateway.switch_light1(&large);
    let mut all = Vec::new();
    loop {
        let block = notification(&mut light);
        assert!(block.bytes().len() <= 1152);
        let shown = block.value(27).expect("it is a block").to_vec();
        all.extend(&block.payload);
        if shown[0] & 8 == 0 {
            respond(&mut light, &block);
            break;
        }
        let answer = CoapMessage { kind: 2, code: 0x5F, ..block };
        let answer = CoapMessage { options: Vec::new(), payload: Vec::new(), ..answer };
        light.send(&answer.option(27, shown));
    }
    let content: Value = serde_json::from_slice(&all).unwrap();
    assert_eq!(value(&content), &large);
    // The next one goes on.
    gateway.switch_light1("on");
    assert_eq!(value(&notification(&mut light).json()), "on");
}

/// A client without a server rejects the message. The notification is not sent again.
#[test]
fn rejected_notification_is_dropped() {
    let (gateway, mut light) = with_subscription();
    gateway.switch_light1("on");
    let request = notification(&mut light);
    light.send(&CoapMessage { kind: 3, id: request.id, ..CoapMessage::default() });
    gateway.log().wait("notification.failed");
    gateway.switch_light1("off");
    let request = notification(&mut light);
    assert_eq!(value(&request.json()), "off");
}

/// A response in the name of another AE, or to a request that was not sent, goes nowhere.
#[test]
fn response_that_is_not_expected_goes_nowhere() {
    let (gateway, mut light) = with_subscription();
    gateway.switch_light1("on");
    let request = notification(&mut light);
    let other = CoapMessage { token: vec![1, 2, 3], ..request.clone() };
    respond(&mut light, &other);
    // It is not answered, so it comes again.
    let again = notification(&mut light);
    assert_eq!(again.id, request.id);
    respond(&mut light, &again);
    assert_eq!(light.receive(Duration::from_secs(1)).unwrap(), None);
}
