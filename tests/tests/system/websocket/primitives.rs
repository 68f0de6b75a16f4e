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
