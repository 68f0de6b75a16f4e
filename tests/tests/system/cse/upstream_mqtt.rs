//! A CSE behind the gateway that speaks MQTT only: the gateway and the CSE are clients of one MQTT
//! server. The CSE receives only checked requests, and each request gets one response.

use std::thread;

use saegis_tests::{
    Broker, BrokerConnection, Gateway, LIGHT1, LIGHT2, Light, Request, Response, Setup, wait_until,
};
use serde_json::{Value, json};

const OWN: &str = "Clight-AE1";

fn start(seconds: u32) -> (Broker, BrokerConnection, Gateway) {
    let broker = Broker::start();
    let url = format!("url = \"mqtt://127.0.0.1:{}\"", broker.port());
    let setup = Setup::new().with("upstream", &url).with("metrics", "address = \"127.0.0.1:0\"");
    let gateway = setup.with("limits", &format!("upstream-seconds = {seconds}")).start();
    let connection = broker.accept();
    (broker, connection, gateway)
}

/// Sends a request on a thread, because the test is the CSE that responds.
fn ask(
    gateway: &Gateway,
    credential: saegis_tests::Credential<'static>,
    request: Request,
) -> thread::JoinHandle<Response> {
    let port = gateway.port();
    thread::spawn(move || {
        Light::connect(port, credential).expect("an association").ask(&request).expect("a response")
    })
}

fn lamp() -> Request {
    Request::retrieve("/cse/light1/lamp").from(OWN)
}

#[test]
fn checked_request_is_published_and_answered() {
    let (_broker, mut cse, gateway) = start(20);
    assert!(cse.client_id.starts_with("saegis-"), "{}", cse.client_id);
    let filters = ["/oneM2M/resp/+/mn-cse-123456/json", "/oneM2M/reg_resp/+/mn-cse-123456/json"];
    assert_eq!(cse.filters, filters);

    let asked = ask(&gateway, LIGHT1, Request::create_instance("/cse/light1/lamp", "on").from(OWN));
    let published = cse.published();
    assert_eq!(published.topic, "/oneM2M/req/Clight-AE1/mn-cse-123456/json");
    let expected = json!({"op": 1, "to": "cse/light1/lamp", "fr": OWN, "ty": 4,
        "rqi": published.request["rqi"], "rvi": "3", "pc": {"m2m:cin": {"con": "on"}}});
    assert_eq!(published.request, expected);
    cse.respond(&published, 2001, &json!({"m2m:cin": {"rn": "4-1"}}));
    let response = asked.join().unwrap().expect(201, 2001);
    assert_eq!(response.json()["m2m:cin"]["rn"], "4-1");
    assert_ne!(response.header("x-m2m-ri"), published.request["rqi"].as_str());

    // A refused request is not published: the next one is.
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    light.ask(&Request::retrieve("/cse/light1/lamp").from("Clight-AE2")).unwrap().expect(403, 4106);
    let asked = ask(&gateway, LIGHT1, lamp());
    let published = cse.published();
    assert_eq!(published.request["fr"], OWN);
    cse.respond(&published, 2000, &json!({"m2m:cnt": {}}));
    asked.join().unwrap().expect(200, 2000);
}

#[test]
fn registration_is_published_by_credential_id() {
    let (_broker, mut cse, gateway) = start(20);
    let ae = json!({"m2m:ae": {"rn": "light1", "api": "Nlight", "rr": false, "srv": ["3"]}});
    let asked = ask(&gateway, LIGHT1, Request::create("/cse", 2, &ae).from(OWN));
    let published = cse.published();
    let topic = "/oneM2M/reg_req/12-AE123456789012-Light@in.provider.com/mn-cse-123456/json";
    assert_eq!(published.topic, topic);
    cse.respond(&published, 2001, &json!({"m2m:ae": {"rn": "light1", "aei": OWN}}));
    asked.join().unwrap().expect(201, 2001);
}

#[test]
fn responses_reach_their_own_originators_in_any_order() {
    let (_broker, mut cse, gateway) = start(20);
    let one = ask(&gateway, LIGHT1, lamp());
    let first = cse.published();
    let two = ask(&gateway, LIGHT2, Request::retrieve("/cse/light2/lamp").from("Clight-AE2"));
    let second = cse.published();
    assert_ne!(first.request["rqi"], second.request["rqi"]);
    cse.respond(&second, 2000, &json!({"m2m:cnt": {"rn": "two"}}));
    assert_eq!(two.join().unwrap().json()["m2m:cnt"]["rn"], "two");
    cse.respond(&first, 2000, &json!({"m2m:cnt": {"rn": "one"}}));
    assert_eq!(one.join().unwrap().json()["m2m:cnt"]["rn"], "one");
}

#[test]
fn unexpected_message_is_dropped_and_counted() {
    let (_broker, mut cse, gateway) = start(20);
    let asked = ask(&gateway, LIGHT1, lamp());
    let published = cse.published();
    let (topic, good) = (published.response_topic(), published.response(2000, &Value::Null));
    let other_id = json!({"rsc": 2000, "rqi": "other", "rvi": "3"});
    // Another identifier, the topic of another originator, a request, no primitive, and a message
    // that is larger than any response.
    cse.publish(&topic, other_id.to_string().as_bytes());
    cse.publish(&topic.replace("AE1", "AE2"), good.to_string().as_bytes());
    cse.publish(&topic, published.request.to_string().as_bytes());
    cse.publish(&topic, b"no primitive");
    cse.publish(&topic, &vec![b'x'; 1 << 20]);
    cse.respond(&published, 2000, &json!({"m2m:cnt": {"rn": "good"}}));
    assert_eq!(asked.join().unwrap().json()["m2m:cnt"]["rn"], "good");
    // The response comes a second time.
    cse.respond(&published, 2000, &json!({"m2m:cnt": {}}));
    wait_until("the messages are counted", || {
        gateway.monitor("/metrics").text.contains("saegis_upstream_messages_dropped_total 5")
    });
}

/// An MQTT server closes the connection of a client that publishes a larger packet than it accepts.
#[test]
fn too_large_request_is_refused_before_it_is_sent() {
    let broker = Broker::start();
    let upstream = format!("url = \"mqtt://127.0.0.1:{}\"\nmax-packet-bytes = 2048", broker.port());
    let gateway = Setup::new().with("upstream", &upstream).start();
    let mut cse = broker.accept();
    // The topic and the parameters count.
    let create = |bytes| {
        let instance = Request::create_instance("/cse/light1/lamp", &"x".repeat(bytes)).from(OWN);
        ask(&gateway, LIGHT1, instance)
    };
    let response = create(2000).join().unwrap();
    assert!(response.debug().contains("larger than 2048 bytes"), "{response:?}");
    response.expect(400, 4000);
    let asked = create(1500);
    let published = cse.published();
    assert_eq!(published.request["pc"]["m2m:cin"]["con"], "x".repeat(1500));
    cse.respond(&published, 2001, &json!({"m2m:cin": {"rn": "4-1"}}));
    asked.join().unwrap().expect(201, 2001);
}

#[test]
fn cse_without_response_times_out() {
    let (_broker, mut cse, gateway) = start(1);
    let asked = ask(&gateway, LIGHT1, lamp());
    let published = cse.published();
    asked.join().unwrap().expect(504, 4008);
    // Its response comes too late, and the next request works.
    cse.respond(&published, 2000, &json!({"m2m:cnt": {"rn": "late"}}));
    let asked = ask(&gateway, LIGHT1, lamp());
    let published = cse.published();
    cse.respond(&published, 2000, &json!({"m2m:cnt": {"rn": "next"}}));
    assert_eq!(asked.join().unwrap().json()["m2m:cnt"]["rn"], "next");
}

#[test]
fn lost_mqtt_server_is_reported_and_found_again() {
    let (broker, mut cse, gateway) = start(20);
    let asked = ask(&gateway, LIGHT1, lamp());
    cse.published();
    let port = broker.port();
    let mark = gateway.log().mark();
    drop((broker, cse));
    // The request in progress ends with the connection, and further ones are refused.
    asked.join().unwrap().expect(404, 5103);
    gateway.log().wait_after(mark, "upstream.disconnected");
    ask(&gateway, LIGHT1, lamp()).join().unwrap().expect(404, 5103);

    let broker = Broker::start_at(port);
    let mut cse = broker.accept();
    gateway.log().wait_after(mark, "upstream.connected");
    let asked = ask(&gateway, LIGHT1, lamp());
    let published = cse.published();
    cse.respond(&published, 2000, &json!({"m2m:cnt": {"rn": "again"}}));
    assert_eq!(asked.join().unwrap().json()["m2m:cnt"]["rn"], "again");
}

#[test]
fn refused_subscription_is_reported() {
    let broker = Broker::start();
    let url = format!("url = \"mqtt://127.0.0.1:{}\"", broker.port());
    let gateway = Setup::new().with("upstream", &url).start();
    broker.refuse_subscription().is_closed();
    let event = gateway.log().wait("upstream.disconnected");
    assert!(event.text("message").contains("refuses a subscription"), "{event:?}");
}
