//! Updates that wait for a notification target, and retrievals that wait for an instance.

use std::time::{Duration, Instant};

use saegis_tests::{Gateway, LIGHT1, LIGHT2, Light, Message, Reply, Request, Setup, Upstream};
use serde_json::{Value, json};

const OWN: &str = "Clight-AE1";
const OTHER: &str = "Clight-AE2";
const LAMP: &str = "/cse/light1/lamp";

fn ok() -> Reply {
    Reply::answer(200, 2000, "")
}

/// Registers light 1 with a container that light 2 may update, and light 2 with this point of access.
fn with_lamp(poa: &str) -> (Gateway, Light, Light) {
    let setup = Setup::new().with("notifications", "targets = [\"127.0.0.1\"]");
    let gateway = setup.with("notifications", "timeout-seconds = 60").start();
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    let mut other = Light::connect(gateway.port(), LIGHT2).unwrap();
    light.ask(&Request::create_ae("light1").from(OWN)).unwrap().expect(201, 2001);
    let ae = json!({"m2m:ae": {
        "rn": "light2", "api": "Nlight", "rr": true, "srv": ["3"], "poa": [poa],
    }});
    other.ask(&Request::create("/cse", 2, &ae).from(OTHER)).unwrap().expect(201, 2001);
    let rules = |who: &[&str]| json!({"acr": [{"acor": who, "acop": 63}]});
    let acp = json!({"m2m:acp": {"rn": "acp", "pv": rules(&[OWN, OTHER]), "pvs": rules(&[OWN])}});
    light.ask(&Request::create("/cse/light1", 1, &acp).from(OWN)).unwrap().expect(201, 2001);
    let lamp = json!({"m2m:cnt": {"rn": "lamp", "acpi": ["cse/light1/acp"]}});
    light.ask(&Request::create("/cse/light1", 3, &lamp).from(OWN)).unwrap().expect(201, 2001);
    (gateway, light, other)
}

fn subscription(parent: &str, attributes: &Value) -> Request {
    Request::create(parent, 23, &json!({ "m2m:sub": attributes })).from(OWN)
}

fn blocking() -> Value {
    json!({"rn": "guard", "nu": ["cse/light2"], "enc": {"net": [7], "atr": ["lbl"]}})
}

fn update(value: &str) -> Request {
    Request::update(LAMP, &json!({"m2m:cnt": {"lbl": [value]}})).from(OWN)
}

fn labels(light: &mut Light) -> Value {
    let lamp = light.ask(&Request::retrieve(LAMP).from(OWN)).unwrap().expect(200, 2000).json();
    lamp["m2m:cnt"]["lbl"].clone()
}

fn event(notification: &Message) -> Value {
    let content: Value = serde_json::from_slice(&notification.body).unwrap();
    content["m2m:sgn"]["nev"].clone()
}

#[test]
fn update_waits_for_approval_of_target() {
    let target = Upstream::start(ok());
    let url = format!("http://127.0.0.1:{}/", target.port());
    let (gateway, mut light, _other) = with_lamp(&url);
    light.ask(&subscription(LAMP, &blocking())).unwrap().expect(201, 2001);
    light.ask(&update("one")).unwrap().expect(200, 2004);
    // The target agreed to the subscription first.
    let approval = event(&target.wait(2)[1]);
    assert_eq!(approval, json!({"net": 7, "rep": {"m2m:cnt": {"lbl": ["one"]}}}));
    // Other attributes need no approval.
    let other = Request::update(LAMP, &json!({"m2m:cnt": {"mni": 9}})).from(OWN);
    light.ask(&other).unwrap().expect(200, 2004);
    assert_eq!(target.requests().len(), 2);
    for (code, rsc) in [(4005, 4127), (5103, 5107), (4103, 4127)] {
        target.reply_with(Reply::answer(400, code, ""));
        assert_eq!(light.ask(&update("refused")).unwrap().rsc(), Some(rsc), "{code}");
    }
    assert_eq!(labels(&mut light), json!(["one"]));
    // While one waits, so do other updates and deletions.
    target.reply_with(Reply::Pending);
    light.send(&update("two").bytes()).unwrap();
    target.wait(6);
    let mut second = Light::connect(gateway.port(), LIGHT1).unwrap();
    second.send(&other.bytes()).unwrap();
    let mut third = Light::connect(gateway.port(), LIGHT1).unwrap();
    third.ask(&Request::retrieve(LAMP).from(OWN)).unwrap().expect(200, 2000);
    let late = Request::delete(LAMP).from(OWN).header("X-M2M-RET", "1000");
    third.ask(&late).unwrap().expect_refusal(504, 4008);
    target.reply_with(ok());
    light.read().unwrap().expect(200, 2004);
    second.read().unwrap().expect(200, 2004);
    assert_eq!(labels(&mut light), json!(["two"]));
}

#[test]
fn update_without_approval_ends_at_its_deadline() {
    let target = Upstream::start(ok());
    let url = format!("http://127.0.0.1:{}/", target.port());
    let (gateway, mut light, _other) = with_lamp(&url);
    light.ask(&subscription(LAMP, &blocking())).unwrap().expect(201, 2001);
    target.wait(1);
    target.reply_with(Reply::Pending);
    let begun = Instant::now();
    let late = update("late").header("X-M2M-RET", "1000");
    light.ask(&late).unwrap().expect_refusal(404, 5107);
    assert!(begun.elapsed() < Duration::from_secs(50), "the timeout of notifications is longer");
    // A client that leaves blocks nothing.
    light.send(&update("left").bytes()).unwrap();
    target.wait(3);
    light.close();
    target.reply_with(ok());
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    light.ask(&update("next")).unwrap().expect(200, 2004);
    assert_eq!(labels(&mut light), json!(["next"]));
}

#[test]
fn invalid_blocking_subscription_is_refused() {
    let target = Upstream::start(ok());
    let url = format!("http://127.0.0.1:{}/", target.port());
    let (_gateway, mut light, _other) = with_lamp(&url);
    let with = |name: &str, value: Value| {
        let mut attributes = blocking();
        attributes[name] = value;
        attributes
    };
    for (attributes, rsc) in [
        (with("nu", json!([url])), 4000),
        (with("nu", json!(["cse/light2", OWN])), 4000),
        (with("bn", json!({"num": 2})), 4000),
        (with("exc", json!(3)), 4000),
        (with("nct", json!(1)), 4000),
        (with("enc", json!({"net": [7, 1]})), 4000),
        (with("enc", json!({"net": [7], "sza": 1})), 4000),
        (with("enc", json!({"net": [6]})), 5001),
    ] {
        let answer = light.ask(&subscription(LAMP, &attributes)).unwrap();
        assert_eq!(answer.rsc(), Some(rsc), "{attributes} {answer:?}");
    }
    // The target must have the privilege to update the resource.
    light.ask(&subscription("/cse/light1", &blocking())).unwrap().expect_refusal(403, 4103);
    light.ask(&subscription(LAMP, &with("nct", json!(2)))).unwrap().expect(201, 2001);
    let another = with("rn", json!("another"));
    light.ask(&subscription(LAMP, &another)).unwrap().expect_refusal(409, 4124);
    let usual = json!({"rn": "usual", "nu": [OWN]});
    light.ask(&subscription(LAMP, &usual)).unwrap().expect(201, 2001);
    let change = json!({"m2m:sub": {"enc": {"net": [7]}, "nct": 2, "nu": ["cse/light2"]}});
    let change = Request::update("/cse/light1/lamp/usual", &change).from(OWN);
    light.ask(&change).unwrap().expect_refusal(400, 4000);
}

#[test]
fn retrieval_waits_for_first_instance() {
    let target = Upstream::start(ok());
    let url = format!("http://127.0.0.1:{}/", target.port());
    let (gateway, mut light, _other) = with_lamp(&url);
    let asked = Request::retrieve(&format!("{LAMP}?rcn=4")).from(OWN);
    light.ask(&asked).unwrap().expect(200, 2000);
    let sub = json!({"rn": "sub", "nu": [url], "enc": {"net": [5]}});
    light.ask(&subscription("/cse/light1", &sub)).unwrap().expect_refusal(400, 4000);
    light.ask(&subscription(LAMP, &sub)).unwrap().expect(201, 2001);
    let late = asked.clone().header("X-M2M-RST", "500");
    light.ask(&late).unwrap().expect_refusal(504, 4008);
    let reported = event(&target.wait(2)[1]);
    assert_eq!((&reported["net"], &reported["rep"]["m2m:cnt"]["cni"]), (&json!(5), &json!(0)));
    light.send(&asked.bytes()).unwrap();
    target.wait(3);
    let mut second = Light::connect(gateway.port(), LIGHT1).unwrap();
    let instance = Request::create_instance(LAMP, "on").from(OWN);
    second.ask(&instance).unwrap().expect(201, 2001);
    let got = light.read().unwrap().expect(200, 2000).json();
    assert_eq!(got["m2m:cnt"]["m2m:cin"][0]["con"], "on", "{got}");
    // The container has an instance now.
    light.ask(&asked).unwrap().expect(200, 2000);
    assert_eq!(target.requests().len(), 3);
}

#[test]
fn target_is_verified_through_polling_channel() {
    let setup = Setup::new().with("notifications", "timeout-seconds = 3");
    let gateway = setup.start();
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    let mut other = Light::connect(gateway.port(), LIGHT2).unwrap();
    light.ask(&Request::create_ae("light1").from(OWN)).unwrap().expect(201, 2001);
    let ae = json!({"m2m:ae": {"rn": "light2", "api": "Nlight", "rr": false, "srv": ["3"]}});
    other.ask(&Request::create("/cse", 2, &ae).from(OTHER)).unwrap().expect(201, 2001);
    let channel = json!({"m2m:pch": {"rn": "polls"}});
    other.ask(&Request::create("/cse/light2", 15, &channel).from(OTHER)).unwrap().expect(201, 2001);
    let pcu = "/cse/light2/polls/pcu";
    for (answer, rsc) in [(None, 5204), (Some(4005), 5204), (Some(2000), 2001)] {
        let sub = subscription("/cse/light1", &json!({"nu": ["cse/light2"]}));
        light.send(&sub.bytes()).unwrap();
        let got = other.ask(&Request::retrieve(pcu).from(OTHER)).unwrap().expect(200, 2000).json();
        let asked = &got["m2m:rqp"];
        assert_eq!((&asked["op"], &asked["pc"]["m2m:sgn"]["vrq"]), (&json!(5), &json!(true)));
        if let Some(code) = answer {
            let response = json!({"rsc": code, "rqi": asked["rqi"], "fr": OTHER, "rvi": "3"});
            let response = json!({ "m2m:rsp": response }).to_string();
            let respond = Request::new("POST", pcu).from(OTHER);
            let respond = respond.header("Content-Type", "application/json").body(&response);
            other.ask(&respond).unwrap().expect(200, 2000);
        }
        assert_eq!(light.read().unwrap().rsc(), Some(rsc), "{answer:?}");
    }
    // Nobody else can answer for it.
    let content = json!({"m2m:rsp": {"rsc": 2000, "rqi": "r", "fr": OWN, "rvi": "3"}});
    let forged = Request::new("POST", pcu).from(OWN).header("Content-Type", "application/json");
    light.ask(&forged.body(&content.to_string())).unwrap().expect_refusal(403, 4103);
}
