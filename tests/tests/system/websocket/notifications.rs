//! Notifications over the WebSocket connection of an AE (TS-0020 clauses 5.2 and 6.5).

use saegis_tests::{Credential, Gateway, LIGHT1, LIGHT2, Light, Mark, Request, Setup, WebSocket};
use serde_json::{Value, json};
use tungstenite::Message;

const OWN: &str = "Clight-AE1";
const OTHER: &str = "Clight-AE2";
const JSON: (&str, &str) = ("Sec-WebSocket-Protocol", "oneM2M.json");

fn connect(gateway: &Gateway, credential: Credential<'_>) -> WebSocket {
    Light::connect(gateway.port(), credential).unwrap().websocket(&[JSON]).unwrap()
}

/// Registers an AE that takes requests and names no point of access, with a container.
fn register(light: &mut WebSocket, own: &str, name: &str) {
    let ae = json!({"m2m:ae": {"rn": name, "api": "Nlight", "rr": true, "srv": ["3"]}});
    light.expect(json!({"op": 1, "to": "cse", "fr": own, "ty": 2, "pc": ae}), 2001);
    let to = format!("cse/{name}");
    let container = json!({"m2m:cnt": {"rn": "lamp"}});
    light.expect(json!({"op": 1, "to": to, "fr": own, "ty": 3, "pc": container}), 2001);
}

fn subscribe(light: &mut WebSocket) {
    let told = json!({"m2m:sub": {"rn": "told", "nu": [OWN], "enc": {"net": [3]}}});
    light.expect(json!({"op": 1, "to": "cse/light1/lamp", "fr": OWN, "ty": 23, "pc": told}), 2001);
}

fn with_subscription() -> (Gateway, WebSocket) {
    let gateway = Setup::new().with("notifications", "timeout-seconds = 3").start();
    let mut light = connect(&gateway, LIGHT1);
    register(&mut light, OWN, "light1");
    subscribe(&mut light);
    (gateway, light)
}

/// Reads a notification, and returns it with its value.
fn notification(light: &mut WebSocket) -> (Value, Value) {
    let request = light.primitive();
    assert_eq!((&request["op"], &request["to"]), (&json!(5), &json!(OWN)), "{request}");
    assert_eq!((&request["fr"], &request["rvi"]), (&json!("/mn-cse-123456"), &json!("3")));
    let value = request["pc"]["m2m:sgn"]["nev"]["rep"]["m2m:cin"]["con"].clone();
    (request, value)
}

fn respond(light: &mut WebSocket, request: &Value, rsc: u16) {
    let response = json!({"rsc": rsc, "rqi": request["rqi"], "rvi": "3", "fr": OWN});
    light.send_text(&response.to_string());
}

#[test]
fn notifications_arrive_over_open_connection() {
    let (gateway, mut light) = with_subscription();
    for value in ["on", "off"] {
        gateway.switch_light1(value);
        let (request, got) = notification(&mut light);
        assert_eq!(got, value);
        // A request of its own meanwhile is answered.
        light.expect(json!({"op": 2, "to": "cse/light1", "fr": OWN}), 2000);
        respond(&mut light, &request, 2000);
    }
    assert!(gateway.log().all(Mark::START, "notification.failed", 0).is_empty());
}

/// Nothing listens at the point of access.
#[test]
fn open_connection_comes_before_point_of_access() {
    let (gateway, mut light) = with_subscription();
    let poa = json!({"m2m:ae": {"poa": ["http://127.0.0.1:1/"]}});
    light.expect(json!({"op": 3, "to": "cse/light1", "fr": OWN, "pc": poa}), 2004);
    gateway.switch_light1("on");
    let (request, got) = notification(&mut light);
    assert_eq!(got, "on");
    respond(&mut light, &request, 2000);
}

#[test]
fn notification_waits_for_connection_of_its_ae() {
    let (gateway, light) = with_subscription();
    drop(light);
    gateway.log().wait("association.ended");
    gateway.switch_light1("on");
    gateway.switch_light1("off");
    // Another credential gets nothing.
    let mut other = connect(&gateway, LIGHT2);
    register(&mut other, OTHER, "light2");
    let mut light = connect(&gateway, LIGHT1);
    for value in ["on", "off"] {
        let (request, got) = notification(&mut light);
        assert_eq!(got, value);
        respond(&mut light, &request, 2000);
    }
    other.expect(json!({"op": 2, "to": "cse/light2", "fr": OTHER}), 2000);
}

/// A notification without a response is sent again over the next connection.
#[test]
fn notification_without_response_is_sent_again() {
    let (gateway, mut light) = with_subscription();
    gateway.switch_light1("on");
    assert_eq!(notification(&mut light).1, "on");
    drop(light);
    let mut light = connect(&gateway, LIGHT1);
    let (request, got) = notification(&mut light);
    assert_eq!(got, "on");
    respond(&mut light, &request, 2000);
}

#[test]
fn other_ae_is_asked_and_notified_over_its_connection() {
    let (gateway, mut light) = with_subscription();
    let mut other = connect(&gateway, LIGHT2);
    register(&mut other, OTHER, "light2");
    // Light 1 lets light 2 subscribe; light 2 names light 1 as the target.
    let rules = json!({"acr": [{"acor": [OTHER, OWN], "acop": 63}]});
    let policy = json!({"m2m:acp": {"rn": "open", "pv": rules, "pvs": rules}});
    let own = |op: u16, to: &str| json!({"op": op, "to": to, "fr": OWN});
    let mut create = own(1, "cse/light1");
    (create["ty"], create["pc"]) = (json!(1), policy);
    let created = light.expect(create, 2001);
    let ri = created["pc"]["m2m:acp"]["ri"].clone();
    for (to, root) in [("cse/light1", "m2m:ae"), ("cse/light1/lamp", "m2m:cnt")] {
        let mut update = own(3, to);
        update["pc"] = json!({ root: {"acpi": [ri]} });
        light.expect(update, 2004);
    }
    let told = json!({"m2m:sub": {"rn": "by2", "nu": [OWN], "enc": {"net": [3]}}});
    let create = json!({"op": 1, "to": "cse/light1/lamp", "fr": OTHER, "ty": 23, "pc": told,
        "rqi": "sub", "rvi": "3"});
    other.send_text(&create.to_string());
    let question = light.primitive();
    assert_eq!(question["pc"]["m2m:sgn"]["vrq"], true, "{question}");
    respond(&mut light, &question, 2000);
    let response = other.primitive();
    assert_eq!(response["rsc"], 2001, "{response}");
}

#[test]
fn unmatched_websocket_response_is_dropped() {
    let (gateway, mut light) = with_subscription();
    for rqi in ["nothing", "r1"] {
        light.send_text(&json!({"rsc": 2000, "rqi": rqi, "fr": OTHER}).to_string());
    }
    for bad in [r#"{"rsc":4000}"#, r#"{"rsc":"x","rqi":"r1"}"#, r#"{"rsc":4000,"rqi":1}"#] {
        light.send_text(bad);
    }
    // It is not answered, and the connection goes on.
    light.expect(json!({"op": 2, "to": "cse/light1", "fr": OWN}), 2000);
    gateway.switch_light1("on");
    let (request, _) = notification(&mut light);
    // A response that is not a primitive is one all the same, and is not answered.
    let bad = json!({"rsc": "2000", "rqi": request["rqi"]});
    light.send_text(&bad.to_string());
    light.expect(json!({"op": 2, "to": "cse/light1", "fr": OWN}), 2000);
    gateway.log().wait("notification.failed");
}

/// An AE with a polling channel goes on polling, also over its WebSocket.
#[test]
fn polling_channel_is_polled_over_websocket() {
    let gateway = Setup::new().start();
    let mut light = connect(&gateway, LIGHT1);
    let ae = json!({"m2m:ae": {"rn": "light1", "api": "Nlight", "rr": false, "srv": ["3"]}});
    light.expect(json!({"op": 1, "to": "cse", "fr": OWN, "ty": 2, "pc": ae}), 2001);
    for (to, ty, pc) in [
        ("cse/light1", 15, json!({"m2m:pch": {"rn": "queue"}})),
        ("cse/light1", 3, json!({"m2m:cnt": {"rn": "lamp"}})),
    ] {
        light.expect(json!({"op": 1, "to": to, "fr": OWN, "ty": ty, "pc": pc}), 2001);
    }
    subscribe(&mut light);
    // The poll waits, and does not hold up what comes after it.
    let poll = json!({"op": 2, "to": "cse/light1/queue/pcu", "fr": OWN, "rqi": "poll", "rvi": "3"});
    light.send_text(&poll.to_string());
    let instance = json!({"op": 1, "to": "cse/light1/lamp", "fr": OWN, "rqi": "put", "rvi": "3",
        "ty": 4, "pc": {"m2m:cin": {"con": "on"}}});
    light.send_text(&instance.to_string());
    let mut responses = [light.primitive(), light.primitive()];
    responses.sort_by_key(|response| response["rqi"].to_string());
    assert_eq!((&responses[0]["rqi"], &responses[0]["rsc"]), (&json!("poll"), &json!(2000)));
    let told = &responses[0]["pc"]["m2m:rqp"]["pc"]["m2m:sgn"]["nev"]["rep"]["m2m:cin"]["con"];
    assert_eq!(told, "on", "{}", responses[0]);
    assert_eq!((&responses[1]["rqi"], &responses[1]["rsc"]), (&json!("put"), &json!(2001)));
}

#[test]
fn second_websocket_supersedes_first_after_upgrade() {
    let (gateway, mut first) = with_subscription();
    // An association of the same credential that does not upgrade, or is refused, ends nothing.
    let mut http = Light::connect(gateway.port(), LIGHT1).unwrap();
    http.ask(&Request::retrieve("/cse/light1").from(OWN)).unwrap().expect(200, 2000);
    let refused = http.websocket(&[("Sec-WebSocket-Protocol", "mqtt")]).err().unwrap();
    assert_eq!(refused.status(), 400);
    first.expect(json!({"op": 2, "to": "cse/light1", "fr": OWN}), 2000);
    // Nor does another entity's.
    let _other = connect(&gateway, LIGHT2);
    first.expect(json!({"op": 2, "to": "cse/light1", "fr": OWN}), 2000);
    let mut second = connect(&gateway, LIGHT1);
    first.expect_closed(1008);
    gateway.switch_light1("on");
    let (request, _) = notification(&mut second);
    respond(&mut second, &request, 2000);
}

#[test]
fn revocation_ends_connection() {
    let (gateway, mut light) = with_subscription();
    let mark = gateway.log().mark();
    gateway.replace("policies/psk-lookup-table.csv", gateway.table_without(LIGHT1));
    light.expect_closed(1008);
    gateway.log().wait_after(mark, "association.revoked");
    let ended = gateway.log().wait_after(mark, "association.ended");
    assert_eq!(ended.text("why"), "revoked");
    // Its requests get no further.
    assert!(light.send(Message::text("{}")).is_err());
}
