//! Subscriptions that monitor attempts to access a resource (`om`).

use saegis_tests::{LIGHT1, LIGHT2, Light, Message, Reply, Request, Setup, Upstream};
use serde_json::{Value, json};

const OWN: &str = "Clight-AE1";
const OTHER: &str = "Clight-AE2";
const LAMP: &str = "/cse/light1/lamp";

fn attempt(notification: &Message) -> Value {
    let content: Value = serde_json::from_slice(&notification.body).unwrap();
    let event = &content["m2m:sgn"]["nev"];
    assert!(event["rep"].is_object() && event.get("net").is_none(), "{content}");
    event["om"].clone()
}

#[test]
fn attempts_are_reported_whether_they_succeed_or_not() {
    let target = Upstream::start(Reply::answer(200, 2000, ""));
    let gateway = Setup::new().with("notifications", "targets = [\"127.0.0.1\"]").start();
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    let mut other = Light::connect(gateway.port(), LIGHT2).unwrap();
    light.ask(&Request::create_ae("light1").from(OWN)).unwrap().expect(201, 2001);
    other.ask(&Request::create_ae("light2").from(OTHER)).unwrap().expect(201, 2001);
    let lamp = Request::create_container("/cse/light1", "lamp").from(OWN);
    light.ask(&lamp).unwrap().expect(201, 2001);
    let url = format!("http://127.0.0.1:{}/", target.port());
    let sub = |enc: Value| {
        let sub = json!({"m2m:sub": {"nu": [url], "enc": enc}});
        Request::create(LAMP, 23, &sub).from(OWN)
    };
    for (enc, rsc) in [
        (json!({"om": [{}]}), 4000),
        (json!({"om": [{"ops": 64}]}), 4000),
        (json!({"om": [{"ops": 2}], "net": [1]}), 4000),
    ] {
        assert_eq!(light.ask(&sub(enc.clone())).unwrap().rsc(), Some(rsc), "{enc}");
    }
    // Any operation of light 2, and deletions by anybody.
    let enc = json!({"om": [{"or": OTHER}, {"ops": 8}]});
    light.ask(&sub(enc)).unwrap().expect(201, 2001);
    target.wait(1);
    light.ask(&Request::retrieve(LAMP).from(OWN)).unwrap().expect(200, 2000);
    other.ask(&Request::retrieve(LAMP).from(OTHER)).unwrap().expect_refusal(403, 4103);
    let change = Request::update(LAMP, &json!({"m2m:cnt": {"mni": 9}}));
    other.ask(&change.from(OTHER)).unwrap().expect_refusal(403, 4103);
    let instance = Request::create_instance(LAMP, "on").from(OTHER);
    other.ask(&instance).unwrap().expect_refusal(403, 4103);
    let mut reported: Vec<_> = target.wait(4)[1..].iter().map(attempt).collect();
    reported.sort_by_key(|attempt| attempt["op"].as_u64());
    let by_other = |operation: u8| json!({"op": operation, "or": OTHER});
    assert_eq!(reported, [by_other(1), by_other(2), by_other(3)]);
    // It survives a restart.
    drop((light, other));
    let gateway = gateway.kill_and_restart();
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    light.ask(&Request::delete(LAMP).from(OWN)).unwrap().expect(200, 2002);
    let all = target.wait(5);
    assert_eq!(attempt(all.last().unwrap()), json!({"op": 4, "or": OWN}));
}
