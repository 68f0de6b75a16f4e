//! Requests of AEs over WebSocket (TS-0020).

use saegis_tests::{Gateway, LIGHT1, LIGHT2, Light, Request, Setup, WebSocket};
use serde_json::json;

const OWN: &str = "Clight-AE1";
const JSON: (&str, &str) = ("Sec-WebSocket-Protocol", "oneM2M.json");

fn connect(gateway: &Gateway) -> WebSocket {
    Light::connect(gateway.port(), LIGHT1).unwrap().websocket(&[JSON]).unwrap()
}

#[test]
fn ae_registers_creates_and_retrieves() {
    let gateway = Setup::new().start();
    let mut light = connect(&gateway);
    assert_eq!(light.opening().header("sec-websocket-protocol"), Some("oneM2M.json"));
    let ae = json!({"m2m:ae": {"rn": "light1", "api": "Nlight", "rr": true, "srv": ["3"]}});
    let created = light.expect(json!({"op": 1, "to": "cse", "fr": OWN, "ty": 2, "pc": ae}), 2001);
    assert_eq!(created["pc"]["m2m:ae"]["aei"], OWN);
    assert_eq!(created["rvi"], "3");
    let container = json!({"m2m:cnt": {"rn": "lamp"}});
    light.expect(json!({"op": 1, "to": "cse/light1", "fr": OWN, "ty": 3, "pc": container}), 2001);
    let instance = json!({"m2m:cin": {"con": "on"}});
    let to = "/mn-cse-123456/cse/light1/lamp";
    light.expect(json!({"op": 1, "to": to, "fr": OWN, "ty": 4, "pc": instance}), 2001);
    let latest = light.expect(json!({"op": 2, "to": "cse/light1/lamp/la", "fr": OWN}), 2000);
    assert_eq!(latest["pc"]["m2m:cin"]["con"], "on");
    // The same resources as over HTTP.
    let mut http = Light::connect(gateway.port(), LIGHT1).unwrap();
    let latest = http.ask(&Request::retrieve("/cse/light1/lamp/la").from(OWN)).unwrap();
    assert_eq!(latest.expect(200, 2000).json()["m2m:cin"]["con"], "on");
    light.expect(json!({"op": 4, "to": "cse/light1", "fr": OWN}), 2002);
}

#[test]
fn connection_serves_http_before_it_becomes_websocket() {
    let gateway = Setup::new().start();
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    light.ask(&Request::create_ae("light1").from(OWN)).unwrap().expect(201, 2001);
    let mut light = light.websocket(&[JSON]).unwrap();
    light.expect(json!({"op": 2, "to": "cse/light1", "fr": OWN}), 2000);
}

#[test]
fn websocket_request_is_checked() {
    let gateway = Setup::new().start();
    let mut other = Light::connect(gateway.port(), LIGHT2).unwrap();
    other.ask(&Request::create_ae("light2").from("Clight-AE2")).unwrap().expect(201, 2001);
    let mut light = connect(&gateway);
    light.expect(json!({"op": 2, "to": "cse/light2", "fr": "Clight-AE2"}), 4106);
    let logged = gateway.log().wait("request.refused");
    assert_eq!(logged.number("rsc"), 4106);
    // Before its registration an AE gets nothing else.
    light.expect(json!({"op": 2, "to": "cse/light2", "fr": OWN}), 4103);
    let ae = json!({"m2m:ae": {"rn": "light1", "api": "Nlight", "rr": true, "srv": ["3"]}});
    light.expect(json!({"op": 1, "to": "cse", "fr": OWN, "ty": 2, "pc": ae}), 2001);
    light.expect(json!({"op": 2, "to": "cse/light1", "fr": OWN}), 2000);
}

/// Some clients name an originator in the handshake. Each primitive is checked for itself.
#[test]
fn originator_in_handshake_is_ignored() {
    let gateway = Setup::new().start();
    for named in [OWN, "Clight-AE2"] {
        let light = Light::connect(gateway.port(), LIGHT1).unwrap();
        let mut light = light.websocket(&[JSON, ("X-M2M-Origin", named)]).unwrap();
        light.expect(json!({"op": 2, "to": "cse/nothing", "fr": "Clight-AE2"}), 4106);
        light.expect(json!({"op": 2, "to": "cse/nothing", "fr": OWN}), 4004);
    }
}

/// Both responses would have the same identifier.
#[test]
fn second_request_with_pending_identifier_is_refused() {
    let gateway = Setup::new().start();
    let mut light = connect(&gateway);
    let ae = json!({"m2m:ae": {"rn": "light1", "api": "Nlight", "rr": false, "srv": ["3"]}});
    light.expect(json!({"op": 1, "to": "cse", "fr": OWN, "ty": 2, "pc": ae}), 2001);
    for (to, ty, pc) in [
        ("cse/light1", 15, json!({"m2m:pch": {"rn": "queue"}})),
        ("cse/light1", 3, json!({"m2m:cnt": {"rn": "lamp"}})),
        ("cse/light1/lamp", 23, json!({"m2m:sub": {"nu": [OWN], "enc": {"net": [3]}}})),
    ] {
        light.expect(json!({"op": 1, "to": to, "fr": OWN, "ty": ty, "pc": pc}), 2001);
    }
    let request = |op: u16, to: &str, rqi: &str| json!({"op": op, "to": to, "fr": OWN, "rqi": rqi, "rvi": "3"});
    // The poll waits until there is something for the AE.
    light.send_text(&request(2, "cse/light1/queue/pcu", "r").to_string());
    let mut instance = request(1, "cse/light1/lamp", "r");
    (instance["ty"], instance["pc"]) = (json!(4), json!({"m2m:cin": {"con": "on"}}));
    for second in [request(2, "cse/light1", "r"), request(4, "cse/light1", "r"), instance.clone()] {
        light.send_text(&second.to_string());
        let refused = light.primitive();
        assert_eq!((&refused["rsc"], &refused["rqi"]), (&json!(4000), &json!("r")), "{second}");
    }
    // The gateway executed none of them.
    light.expect(request(2, "cse/light1/lamp/la", ""), 4004);
    // The poll is still pending, and an identifier is free again after its response.
    instance["rqi"] = json!("another");
    light.send_text(&instance.to_string());
    let mut responses = [light.primitive(), light.primitive()];
    responses.sort_by_key(|response| response["rqi"].to_string());
    let rsc = responses.map(|response| response["rsc"].clone());
    assert_eq!(rsc, [json!(2001), json!(2000)]);
    light.send_text(&request(2, "cse/light1", "r").to_string());
    assert_eq!(light.primitive()["rsc"], 2000);
}
