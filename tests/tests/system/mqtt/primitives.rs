//! Requests and responses over MQTT: topics, forms of identifiers, serializations.

use saegis_tests::{Gateway, LIGHT1, Light, Mqtt, Request, Setup, mqtt};
use serde_json::json;

const OWN: &str = "Clight-AE1";
const REQ: &str = "/oneM2M/req/Clight-AE1/mn-cse-123456/json";
const RESP: &str = "/oneM2M/resp/Clight-AE1/mn-cse-123456/json";

fn ae() -> serde_json::Value {
    json!({"m2m:ae": {"rn": "light1", "api": "Nlight", "rr": true, "srv": ["3"]}})
}

fn connect(gateway: &Gateway) -> Mqtt {
    let mut light = Mqtt::connect(gateway.mqtt_port(), LIGHT1, "A::Clight-AE1");
    assert_eq!(light.subscribe("/oneM2M/resp/Clight-AE1/#"), 1);
    light
}

#[test]
fn requests_are_carried_out_as_over_http() {
    let gateway = Setup::new().with_mqtt().start();
    let mut light = connect(&gateway);
    light.expect(REQ, json!({"op": 1, "to": "cse", "fr": OWN, "ty": 2, "pc": ae()}), 2001);
    let lamp = json!({"m2m:cnt": {"rn": "lamp"}});
    light.expect(REQ, json!({"op": 1, "to": "cse/light1", "fr": OWN, "ty": 3, "pc": lamp}), 2001);
    let value = json!({"m2m:cin": {"con": "on"}});
    let create = json!({"op": 1, "to": "cse/light1/lamp", "fr": OWN, "ty": 4, "pc": value});
    light.expect(REQ, create, 2001);
    let latest = light.expect(REQ, json!({"op": 2, "to": "cse/light1/lamp/la", "fr": OWN}), 2000);
    assert_eq!(latest["pc"]["m2m:cin"]["con"], "on");
    light.expect(
        REQ,
        json!({"op": 3, "to": "cse/light1/lamp", "fr": OWN,
        "pc": {"m2m:cnt": {"mni": 9}}}),
        2004,
    );
    light.expect(REQ, json!({"op": 4, "to": "cse/light1/lamp", "fr": OWN}), 2002);
    light.expect(REQ, json!({"op": 2, "to": "cse/nothing", "fr": OWN}), 4004);
    // HTTP sees the same resources.
    let mut http = Light::connect(gateway.port(), LIGHT1).unwrap();
    http.ask(&Request::retrieve("/cse/light1").from(OWN)).unwrap().expect(200, 2000);
    light.disconnect();
}

#[test]
fn both_forms_of_ae_id_mean_the_same() {
    let gateway = Setup::new().with_mqtt().start();
    let stem = "Clight-AE1";
    let relative = "mn-cse-123456:Clight-AE1";
    let ask = json!({"op": 2, "to": "cse/nothing", "fr": OWN, "rqi": "r", "rvi": "3"});
    for (identifier, published, subscribed) in [
        (stem, stem, relative),
        (relative, relative, stem),
        ("/mn-cse-123456/Clight-AE1", relative, relative),
    ] {
        let client_id = format!("A::{identifier}");
        let mut light = Mqtt::connect(gateway.mqtt_port(), LIGHT1, &client_id);
        assert_eq!(light.subscribe(&format!("/oneM2M/resp/{subscribed}/+/#")), 1);
        light.publish(&format!("/oneM2M/req/{published}/mn-cse-123456/json"), &ask);
        let (topic, response) = light.message();
        assert_eq!(topic, format!("/oneM2M/resp/{subscribed}/mn-cse-123456/json"));
        assert_eq!(response["rsc"], 4004, "{response}");
        light.disconnect();
    }
}

#[test]
fn response_has_serialization_of_request() {
    let gateway = Setup::new().with_mqtt().start();
    let mut light = connect(&gateway);
    // {"op": 2, "to": "cse/nothing", "fr": "Clight-AE1", "rqi": "r1", "rvi": "3"}
    let request =
        b"\xa5\x62op\x02\x62to\x6bcse/nothing\x62fr\x6aClight-AE1\x63rqi\x62r1\x63rvi\x613";
    light.send(&mqtt::publish("/oneM2M/req/Clight-AE1/mn-cse-123456/cbor", None, request));
    let (topic, _, response) = mqtt::parts(&light.read().unwrap());
    assert_eq!(topic, "/oneM2M/resp/Clight-AE1/mn-cse-123456/cbor");
    assert!(response.windows(7).any(|part| part == b"\x63rsc\x19\x0f\xa4"), "{response:x?}");
    // XML gets the reason in JSON.
    light.send(&mqtt::publish("/oneM2M/req/Clight-AE1/mn-cse-123456/xml", None, b"<m2m:rqp/>"));
    let (topic, response) = light.message();
    assert_eq!((&*topic, &response["rsc"]), (RESP, &json!(4015)));
    // A client that subscribes to CBOR only gets no JSON.
    let mut other = Mqtt::connect(gateway.mqtt_port(), LIGHT1, "other");
    assert_eq!(other.subscribe("/oneM2M/resp/Clight-AE1/mn-cse-123456/cbor"), 1);
    other.publish(REQ, &json!({"op": 2, "to": "cse/nothing", "fr": OWN, "rqi": "j", "rvi": "3"}));
    other.send(&mqtt::publish("/oneM2M/req/Clight-AE1/mn-cse-123456/cbor", None, request));
    let (topic, _, _) = mqtt::parts(&other.read().unwrap());
    assert_eq!(topic, "/oneM2M/resp/Clight-AE1/mn-cse-123456/cbor");
}

/// A request is acknowledged once its response is, in the order of the requests.
#[test]
fn acknowledgment_follows_response() {
    let gateway = Setup::new().with_mqtt().start();
    let mut light = connect(&gateway);
    let ask = |rqi: &str| json!({"op": 2, "to": "cse/nothing", "fr": OWN, "rqi": rqi, "rvi": "3"});
    light.send(&mqtt::publish(REQ, Some(7), ask("a").to_string().as_bytes()));
    let (_, first, _) = mqtt::parts(&light.read().unwrap());
    light.send(&mqtt::publish(REQ, Some(8), ask("b").to_string().as_bytes()));
    let (_, second, _) = mqtt::parts(&light.read().unwrap());
    let puback = |id: u16| [&[0x40, 2], &id.to_be_bytes()[..]].concat();
    light.send(&puback(second.unwrap()));
    // A PINGRESP shows that nothing was acknowledged until now.
    light.send(&[0xc0, 0]);
    assert_eq!(light.read(), Some((0xd0, Vec::new())));
    light.send(&puback(first.unwrap()));
    assert_eq!(light.read(), Some((0x40, vec![0, 7])));
    assert_eq!(light.read(), Some((0x40, vec![0, 8])));
    // Without a subscription, and with one of Quality of Service 0, the request is acknowledged
    // after the response.
    assert_eq!(light.subscribe_with("/oneM2M/resp/Clight-AE1/#", 0), 0);
    light.send(&mqtt::publish(REQ, Some(9), ask("c").to_string().as_bytes()));
    let (_, id, _) = mqtt::parts(&light.read().unwrap());
    assert_eq!(id, None);
    assert_eq!(light.read(), Some((0x40, vec![0, 9])));
    light.send(&mqtt::packet(
        0xa2,
        &[&[0, 3][..], &mqtt::text("/oneM2M/resp/Clight-AE1/#")].concat(),
    ));
    assert_eq!(light.read(), Some((0xb0, vec![0, 3])));
    light.send(&mqtt::publish(REQ, Some(10), ask("d").to_string().as_bytes()));
    assert_eq!(light.read(), Some((0x40, vec![0, 10])));
}

/// A client may publish with Quality of Service 0, and disconnect at once.
#[test]
fn request_is_carried_out_after_disconnect() {
    let gateway = Setup::new().with_mqtt().start();
    let mut light = connect(&gateway);
    let create = json!({"op": 1, "to": "cse", "fr": OWN, "ty": 2, "pc": ae(), "rqi": "r"});
    light.publish(REQ, &create);
    light.disconnect();
    gateway.log().wait("association.ended");
    let mut http = Light::connect(gateway.port(), LIGHT1).unwrap();
    http.ask(&Request::retrieve("/cse/light1").from(OWN)).unwrap().expect(200, 2000);
}

#[test]
fn expired_request_is_refused() {
    let gateway = Setup::new().with_mqtt().start();
    let mut light = connect(&gateway);
    for (rqet, rsc) in [(json!("20200101T000000"), 4008), (json!("x"), 4000), (json!(60000), 4004)]
    {
        light.expect(REQ, json!({"op": 2, "to": "cse/nothing", "fr": OWN, "rqet": rqet}), rsc);
    }
}

#[test]
fn many_requests_are_answered_at_a_time() {
    let gateway = Setup::new().with_mqtt().with("mqtt", "requests = 4").start();
    let mut light = connect(&gateway);
    for n in 0..50 {
        let request = json!({"op": 2, "to": "cse/nothing", "fr": OWN, "rqi": n.to_string(),
            "rvi": "3"});
        light.publish(REQ, &request);
    }
    let mut answered: Vec<u32> =
        (0..50).map(|_| light.message().1["rqi"].as_str().unwrap().parse().unwrap()).collect();
    answered.sort_unstable();
    assert_eq!(answered, (0..50).collect::<Vec<_>>());
}

#[test]
fn stopped_gateway_answers_and_ends_clients() {
    let mut gateway = Setup::new().with_mqtt().start();
    let mut light = connect(&gateway);
    gateway.signal("TERM");
    light.expect_closed();
    assert!(gateway.wait().is_some_and(|status| status.success()));
}
