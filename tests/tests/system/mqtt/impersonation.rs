//! Forms of impersonation that only MQTT has: in the Client Identifier and in topics. Those of
//! primitives are in `identity::impersonation_forms`.

use saegis_tests::{Gateway, LIGHT1, LIGHT2, Light, Mark, Mqtt, Request, Setup, mqtt};
use serde_json::json;

const OWN: &str = "Clight-AE1";
const OTHER: &str = "Clight-AE2";
const REQ: &str = "/oneM2M/req/Clight-AE1/mn-cse-123456/json";

fn with_both_lights() -> (Gateway, Mqtt) {
    let gateway = Setup::new().with_mqtt().start();
    for (credential, own, name) in [(LIGHT1, OWN, "light1"), (LIGHT2, OTHER, "light2")] {
        let mut light = Light::connect(gateway.port(), credential).unwrap();
        let ask = |light: &mut Light, request: Request| {
            light.ask(&request.from(own)).unwrap().expect(201, 2001);
        };
        ask(&mut light, Request::create_ae(name));
        ask(&mut light, Request::create_container(&format!("/cse/{name}"), "lamp"));
    }
    let mut light = Mqtt::connect(gateway.mqtt_port(), LIGHT1, "A::Clight-AE1");
    assert_eq!(light.subscribe("/oneM2M/resp/Clight-AE1/#"), 1);
    (gateway, light)
}

#[test]
fn topic_of_another_client_ends_connection() {
    let (gateway, _light) = with_both_lights();
    let request = json!({"op": 2, "to": "cse/light2", "fr": OTHER, "rqi": "r", "rvi": "3"});
    for topic in [
        "/oneM2M/req/Clight-AE2/mn-cse-123456/json",
        "/oneM2M/req/mn-cse-123456:Clight-AE2/mn-cse-123456/json",
        "/oneM2M/req/mn-cse-123456/Clight-AE2/json",
        "/oneM2M/resp/Clight-AE1/mn-cse-123456/json",
        "/oneM2M/resp/mn-cse-123456/Clight-AE2/json",
        "/oneM2M/req/Clight-AE1/in-cse/json",
        "/oneM2M/reg_resp/x/mn-cse-123456/json",
        "/oneM2M/reg_req/x/in-cse/json",
        "/oneM2M/req/Clight-AE1/mn-cse-123456",
        "home/lamp",
        "$SYS/broker/version",
        "",
    ] {
        let mut light = Mqtt::connect(gateway.mqtt_port(), LIGHT1, "bad");
        let mark = gateway.log().mark();
        light.publish(topic, &request);
        light.expect_closed();
        // Other associations may end meanwhile.
        gateway.log().wait_for(mark, "association.ended", |ended| {
            ended.text("why") == "the topic is not one of the client"
        });
    }
    assert!(!gateway.log().all(Mark::START, "request.refused", 1).is_empty());
}

#[test]
fn filters_of_others_are_refused() {
    let (_gateway, mut light) = with_both_lights();
    for filter in [
        "#",
        "+/+/+/+/+/+",
        "/oneM2M/#",
        "/oneM2M/req/#",
        "/oneM2M/req/+/+/#",
        "/oneM2M/req/+/Clight-AE2/#",
        "/oneM2M/resp/Clight-AE2/#",
        "/oneM2M/resp/+/mn-cse-123456/#",
        "/oneM2M/req/Clight-AE1/mn-cse-123456/#",
        "/oneM2M/reg_req/+/mn-cse-123456/#",
        "/oneM2M/reg_resp/#",
        "$SYS/#",
        "$share/group/oneM2M/req/+/Clight-AE1/#",
    ] {
        assert_eq!(light.subscribe(filter), 0x80, "{filter}");
    }
    for filter in ["/oneM2M/req/+/Clight-AE1/+", "/oneM2M/reg_resp/any/#"] {
        assert_eq!(light.subscribe_with(filter, 2), 1, "{filter}");
    }
    // Nothing that light 2 does is seen here.
    light.expect(REQ, json!({"op": 2, "to": "cse/light1", "fr": OWN}), 2000);
}

#[test]
fn client_identifier_of_another_entity_is_rejected() {
    let gateway = Setup::new().with_mqtt().start();
    for (client_id, flags, code) in [
        ("A::Clight-AE2", 0b10, 2),
        ("A::/mn-cse-123456/Clight-AE2", 0b10, 2),
        ("A::", 0b10, 2),
        ("C::mn-cse-123456", 0b10, 2),
        ("C::Clight-AE1", 0b10, 2),
        ("", 0, 2),
        ("", 0b10, 0),
        ("A::Clight-AE1", 0b10, 0),
        ("lamp-17", 0b10, 0),
    ] {
        let mut light = Mqtt::raw(gateway.mqtt_port(), LIGHT1);
        light.send(&mqtt::connect(client_id, flags, 60));
        assert_eq!(light.read(), Some((0x20, vec![0, code])), "{client_id}");
        if code != 0 {
            light.expect_closed();
        }
    }
}

#[test]
fn reg_req_takes_registrations_only_and_ignores_its_credential() {
    let gateway = Setup::new().with_mqtt().start();
    let mut light = Mqtt::connect(gateway.mqtt_port(), LIGHT1, "new");
    // The credential of light 2 in the topic makes no difference.
    let credential = "12-AE123456789015-Light@in.provider.com";
    let topic = format!("/oneM2M/reg_req/{credential}/mn-cse-123456/json");
    assert_eq!(light.subscribe(&format!("/oneM2M/reg_resp/{credential}/#")), 1);
    light.expect(&topic, json!({"op": 2, "to": "cse", "fr": OWN}), 4000);
    let ae = json!({"m2m:ae": {"rn": "light", "api": "Nx", "rr": false, "srv": ["3"]}});
    for from in [OTHER, "Canything", "C"] {
        light.expect(&topic, json!({"op": 1, "to": "cse", "fr": from, "ty": 2, "pc": ae}), 4106);
    }
    let created =
        light.expect(&topic, json!({"op": 1, "to": "cse", "fr": OWN, "ty": 2, "pc": ae}), 2001);
    assert_eq!(created["pc"]["m2m:ae"]["aei"], OWN);
}
