//! Requests of the CSE to an AE over its MQTT connection.

use saegis_tests::{Credential, Gateway, LIGHT1, LIGHT2, Mark, Mqtt, Setup};
use serde_json::{Value, json};

const OWN: &str = "Clight-AE1";
const REQ: &str = "/oneM2M/req/Clight-AE1/mn-cse-123456/json";

fn connect(gateway: &Gateway, credential: Credential<'_>, own: &str) -> Mqtt {
    let mut light = Mqtt::connect(gateway.mqtt_port(), credential, &format!("A::{own}"));
    assert_eq!(light.subscribe(&format!("/oneM2M/resp/{own}/#")), 1);
    light
}

fn with_subscription() -> (Gateway, Mqtt) {
    let gateway = Setup::new().with_mqtt().with("notifications", "timeout-seconds = 3").start();
    let mut light = connect(&gateway, LIGHT1, OWN);
    let ae = json!({"m2m:ae": {"rn": "light1", "api": "Nlight", "rr": true, "srv": ["3"]}});
    light.expect(REQ, json!({"op": 1, "to": "cse", "fr": OWN, "ty": 2, "pc": ae}), 2001);
    let told = json!({"m2m:sub": {"rn": "told", "nu": [OWN], "enc": {"net": [3]}}});
    for (to, ty, pc) in
        [("cse/light1", 3, json!({"m2m:cnt": {"rn": "lamp"}})), ("cse/light1/lamp", 23, told)]
    {
        light.expect(REQ, json!({"op": 1, "to": to, "fr": OWN, "ty": ty, "pc": pc}), 2001);
    }
    (gateway, light)
}

/// Reads a notification, and returns its topic, itself and its value.
fn notification(light: &mut Mqtt) -> (String, Value, Value) {
    let (topic, request) = light.message();
    assert_eq!((&request["op"], &request["to"]), (&json!(5), &json!(OWN)), "{request}");
    assert_eq!((&request["fr"], &request["rvi"]), (&json!("/mn-cse-123456"), &json!("3")));
    let value = request["pc"]["m2m:sgn"]["nev"]["rep"]["m2m:cin"]["con"].clone();
    (topic, request, value)
}

fn respond(light: &mut Mqtt, request: &Value, rsc: u16) {
    let response = json!({"rsc": rsc, "rqi": request["rqi"], "rvi": "3", "fr": OWN});
    light.publish("/oneM2M/resp/mn-cse-123456/Clight-AE1/json", &response);
}

#[test]
fn notifications_arrive_in_subscribed_topic() {
    let (gateway, mut light) = with_subscription();
    assert_eq!(light.subscribe("/oneM2M/req/+/mn-cse-123456:Clight-AE1/+"), 1);
    for value in ["on", "off"] {
        gateway.switch_light1(value);
        let (topic, request, got) = notification(&mut light);
        assert_eq!(topic, "/oneM2M/req/mn-cse-123456/mn-cse-123456:Clight-AE1/json");
        assert_eq!(got, value);
        // A request of its own meanwhile is answered.
        light.expect(REQ, json!({"op": 2, "to": "cse/light1", "fr": OWN}), 2000);
        respond(&mut light, &request, 2000);
    }
    assert!(gateway.log().all(Mark::START, "notification.failed", 0).is_empty());
}

#[test]
fn notification_waits_until_its_ae_subscribes() {
    let (gateway, mut light) = with_subscription();
    gateway.switch_light1("on");
    gateway.switch_light1("off");
    // Another credential gets nothing.
    let mut other = connect(&gateway, LIGHT2, "Clight-AE2");
    assert_eq!(other.subscribe("/oneM2M/req/+/Clight-AE2/#"), 1);
    light.expect(REQ, json!({"op": 2, "to": "cse/light1", "fr": OWN}), 2000);
    assert_eq!(light.subscribe("/oneM2M/req/+/Clight-AE1/#"), 1);
    for value in ["on", "off"] {
        let (_, request, got) = notification(&mut light);
        assert_eq!(got, value);
        respond(&mut light, &request, 2000);
    }
    let other_req = "/oneM2M/req/Clight-AE2/mn-cse-123456/json";
    other.expect(other_req, json!({"op": 2, "to": "cse/x", "fr": "Clight-AE2"}), 4004);
}

/// A notification without a response is sent again over the next connection.
#[test]
fn notification_without_response_is_sent_again() {
    let (gateway, mut light) = with_subscription();
    assert_eq!(light.subscribe("/oneM2M/req/+/Clight-AE1/#"), 1);
    gateway.switch_light1("on");
    assert_eq!(notification(&mut light).2, "on");
    drop(light);
    let mut light = connect(&gateway, LIGHT1, OWN);
    assert_eq!(light.subscribe("/oneM2M/req/+/Clight-AE1/#"), 1);
    let (_, request, got) = notification(&mut light);
    assert_eq!(got, "on");
    respond(&mut light, &request, 2000);
}

#[test]
fn unmatched_mqtt_response_goes_nowhere() {
    let (gateway, mut light) = with_subscription();
    for rqi in ["nothing", "r1"] {
        respond(&mut light, &json!({"rqi": rqi}), 2000);
    }
    light.expect(REQ, json!({"op": 2, "to": "cse/light1", "fr": OWN}), 2000);
    assert_eq!(light.subscribe("/oneM2M/req/+/Clight-AE1/#"), 1);
    gateway.switch_light1("on");
    let (_, request, _) = notification(&mut light);
    // Another AE responds to the request that was sent to this one.
    let mut other = connect(&gateway, LIGHT2, "Clight-AE2");
    let response = json!({"rsc": 4004, "rqi": request["rqi"], "rvi": "3"});
    other.publish("/oneM2M/resp/mn-cse-123456/Clight-AE2/json", &response);
    let other_req = "/oneM2M/req/Clight-AE2/mn-cse-123456/json";
    other.expect(other_req, json!({"op": 2, "to": "cse/x", "fr": "Clight-AE2"}), 4004);
    respond(&mut light, &request, 2000);
    gateway.switch_light1("off");
    let (_, request, got) = notification(&mut light);
    assert_eq!(got, "off");
    respond(&mut light, &request, 2000);
    assert!(gateway.log().all(Mark::START, "notification.failed", 0).is_empty());
}

#[test]
fn revocation_ends_mqtt_connection() {
    let (gateway, mut light) = with_subscription();
    let mark = gateway.log().mark();
    gateway.replace("policies/psk-lookup-table.csv", gateway.table_without(LIGHT1));
    light.expect_closed();
    gateway.log().wait_after(mark, "association.revoked");
    let ended = gateway.log().wait_after(mark, "association.ended");
    assert_eq!(ended.text("why"), "revoked");
}
