//! Subscriptions through a group that aggregates and forwards the notifications (`nfu`).

use saegis_tests::{
    Gateway, LIGHT1, LIGHT2, Light, Message, Reply, Request, Setup, Upstream, eventually,
};
use serde_json::{Value, json};

const OWN: &str = "Clight-AE1";
const OTHER: &str = "Clight-AE2";
const FOPT: &str = "/cse/light1/lamps/fopt";

/// Starts a gateway with light 1, two containers, and a group of them.
fn with_group(aggregation: &Value) -> (Gateway, Light) {
    let gateway = Setup::new().with("notifications", "targets = [\"127.0.0.1\"]").start();
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    light.ask(&Request::create_ae("light1").from(OWN)).unwrap().expect(201, 2001);
    for name in ["left", "right"] {
        let container = Request::create_container("/cse/light1", name).from(OWN);
        light.ask(&container).unwrap().expect(201, 2001);
    }
    let group = json!({"m2m:grp": {
        "rn": "lamps", "mnm": 2, "mid": ["cse/light1/left", "cse/light1/right"],
        "nar": aggregation,
    }});
    light.ask(&Request::create("/cse/light1", 9, &group).from(OWN)).unwrap().expect(201, 2001);
    (gateway, light)
}

fn url(target: &Upstream) -> String {
    format!("http://127.0.0.1:{}/", target.port())
}

fn subscription(path: &str, further: &Value) -> Request {
    let mut sub = json!({"rn": "sub", "enc": {"net": [3]}});
    sub.as_object_mut().unwrap().extend(further.as_object().unwrap().clone());
    Request::create(path, 23, &json!({ "m2m:sub": sub }))
}

/// Subscribes through the group, which verifies the target once.
fn forward_to(light: &mut Light, target: &Upstream) {
    let to = json!({"nu": [url(target)], "nfu": [url(target)]});
    let reply = light.ask(&subscription(FOPT, &to).from(OWN)).unwrap().expect(200, 2000).json();
    let codes: Vec<_> = reply["m2m:agr"]["m2m:rsp"].as_array().unwrap().iter().collect();
    assert!(codes.len() == 2 && codes.iter().all(|part| part["rsc"] == 2001), "{reply}");
    let requests = target.wait(1);
    assert_eq!((requests.len(), &content(&requests[0])["m2m:sgn"]["vrq"]), (1, &json!(true)));
}

fn put(light: &mut Light, container: &str, value: &str) {
    let instance = Request::create_instance(&format!("/cse/light1/{container}"), value).from(OWN);
    light.ask(&instance).unwrap().expect(201, 2001);
}

fn content(notification: &Message) -> Value {
    serde_json::from_slice(&notification.body).unwrap()
}

/// Returns the contents of the instances in an aggregated notification.
fn values(notification: &Message) -> Vec<Value> {
    let content = content(notification);
    let all = content["m2m:agn"]["m2m:sgn"].as_array().cloned().unwrap_or_default();
    all.iter().map(|sgn| sgn["nev"]["rep"]["m2m:cin"]["con"].clone()).collect()
}

#[test]
fn notifications_of_members_arrive_together() {
    let target = Upstream::start(Reply::answer(200, 2000, ""));
    let (_gateway, mut light) = with_group(&json!({"num": 3, "dur": "PT1H"}));
    forward_to(&mut light, &target);
    for (container, value) in [("left", "one"), ("right", "two"), ("left", "three")] {
        put(&mut light, container, value);
    }
    let sent = &target.wait(2)[1];
    assert_eq!(values(sent), ["one", "two", "three"]);
    let first = &content(sent)["m2m:agn"]["m2m:sgn"][0];
    assert_eq!(first["nfu"], url(&target), "{first}");
    // The end of the subscriptions through the group ends the notifications.
    let end = Request::delete(&format!("{FOPT}/sub")).from(OWN);
    light.ask(&end).unwrap().expect(200, 2000);
    put(&mut light, "left", "four");
    let latest = Request::retrieve("/cse/light1/left/la").from(OWN);
    light.ask(&latest).unwrap().expect(200, 2000);
    assert_eq!(target.requests().len(), 2);
}

#[test]
fn aggregation_survives_kill() {
    let target = Upstream::start(Reply::answer(200, 2000, ""));
    let (gateway, mut light) = with_group(&json!({"num": 9, "dur": "PT5S"}));
    forward_to(&mut light, &target);
    put(&mut light, "left", "one");
    put(&mut light, "right", "two");
    drop(light);
    let _gateway = gateway.kill_and_restart();
    // Either of the runs sends it, and a slow one in two parts. A kill may repeat them.
    eventually(|| {
        let mut all: Vec<_> = target.requests().iter().skip(1).flat_map(values).collect();
        all.dedup();
        if all == ["one", "two"] || all == ["one", "two", "one", "two"] { Ok(()) } else { Err(all) }
    });
}

#[test]
fn aggregation_is_repeated_until_it_is_received() {
    let unavailable = b"HTTP/1.1 503 Unavailable\r\nContent-Length: 0\r\n\r\n".to_vec();
    let target = Upstream::start(Reply::answer(200, 2000, ""));
    let (gateway, mut light) = with_group(&json!({"num": 2, "dur": "PT1H"}));
    forward_to(&mut light, &target);
    target.reply_with(Reply::Bytes(unavailable));
    put(&mut light, "left", "one");
    put(&mut light, "right", "two");
    assert_eq!(values(&target.wait(2)[1]), ["one", "two"]);
    gateway.log().wait("notification.failed");
    target.reply_with(Reply::answer(200, 2000, ""));
    eventually(|| match target.requests().last().map(values) {
        Some(last) if target.requests().len() > 2 && last == ["one", "two"] => Ok(()),
        last => Err(last),
    });
}

#[test]
fn group_is_not_used_to_reach_others() {
    let target = Upstream::start(Reply::answer(403, 4101, ""));
    let (gateway, mut light) = with_group(&json!({"num": 2}));
    let mut refused = |request: Request, status: u16, rsc: u16| {
        light.ask(&request.from(OWN)).unwrap().expect_refusal(status, rsc);
    };
    let to = json!({"nu": [url(&target)], "nfu": [url(&target)]});
    // The target has not agreed.
    refused(subscription(FOPT, &to), 500, 5204);
    // No rule allows its address.
    let forbidden = json!({"nu": ["http://127.0.0.2:1/"], "nfu": ["http://127.0.0.2:1/"]});
    refused(subscription(FOPT, &forbidden), 500, 5204);
    let other = json!({"nu": [url(&target)], "nfu": ["http://127.0.0.1:1/"]});
    refused(subscription(FOPT, &other), 400, 4000);
    // Nor can a subscription be made that only looks like one of the group.
    let forged = json!({
        "nu": ["cse/light1/lamps/fopt"], "nfu": [url(&target)], "gpi": "cse/light1/lamps",
    });
    refused(subscription("/cse/light1/left", &forged), 500, 5204);
    refused(subscription("/cse/light1/left", &to), 400, 4000);
    let existing = Request::retrieve("/cse/light1/left/sub").from(OWN);
    light.ask(&existing).unwrap().expect_refusal(404, 4004);
    let mut other = Light::connect(gateway.port(), LIGHT2).unwrap();
    other.ask(&Request::create_ae("light2").from(OTHER)).unwrap().expect(201, 2001);
    other.ask(&subscription(FOPT, &to).from(OTHER)).unwrap().expect_refusal(403, 4103);
    assert_eq!(target.requests().len(), 1, "only the verification that it refused");
}
