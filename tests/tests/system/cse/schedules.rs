//! Schedules, statistics and the latest event of subscriptions, from outside. Pending events and
//! statistics survive a kill.

use saegis_tests::{
    Gateway, LIGHT1, Light, Message, Reply, Request, Response, Setup, Upstream, eventually,
};
use serde_json::{Value, json};

const OWN: &str = "Clight-AE1";
const LAMP: &str = "/cse/light1/lamp";
const SUB: &str = "/cse/light1/lamp/sub";

fn content(request: &Message) -> Value {
    let content: Value = serde_json::from_slice(&request.body).unwrap();
    content["m2m:sgn"]["nev"]["rep"]["m2m:cin"]["con"].clone()
}

fn put(light: &mut Light, value: &str) {
    let instance = Request::create_instance(LAMP, value).from(OWN);
    light.ask(&instance).unwrap().expect(201, 2001);
}

fn ask(light: &mut Light, request: Request) -> Response {
    light.ask(&request.from(OWN)).unwrap()
}

/// Starts a gateway with a light whose lamp a target is subscribed to.
fn start(target: &Upstream, policies: Value) -> (Gateway, Light) {
    let gateway = Setup::new().with("notifications", "targets = [\"127.0.0.1\"]").start();
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    ask(&mut light, Request::create_ae("light1")).expect(201, 2001);
    ask(&mut light, Request::create_container("/cse/light1", "lamp")).expect(201, 2001);
    let address = format!("http://127.0.0.1:{}/", target.port());
    let mut sub = json!({"rn": "sub", "nu": [address], "enc": {"net": [3]}});
    sub.as_object_mut().unwrap().extend(policies.as_object().unwrap().clone());
    ask(&mut light, Request::create(LAMP, 23, &json!({ "m2m:sub": sub }))).expect(201, 2001);
    target.wait(1);
    (gateway, light)
}

#[test]
fn pending_events_are_sent_when_schedule_allows() {
    let target = Upstream::start(Reply::answer(200, 2000, ""));
    let (gateway, mut light) = start(&target, json!({"pn": 2}));
    for bad in [json!({"sce": []}), json!({"sce": ["* * * * * *"]}), json!("* * * * * * *")] {
        let bad = json!({"m2m:sch": {"se": bad}});
        ask(&mut light, Request::create(SUB, 18, &bad)).expect_refusal(400, 4000);
    }
    let never = json!({"m2m:sch": {"rn": "times", "se": {"sce": ["* * * * * * 2020"]}}});
    ask(&mut light, Request::create(SUB, 18, &never)).expect(201, 2001);
    ask(&mut light, Request::create(SUB, 18, &never)).expect_refusal(406, 5207);
    put(&mut light, "one");
    put(&mut light, "two");
    drop(light);
    let gateway = gateway.kill_and_restart();
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    assert_eq!(target.requests().len(), 1, "the schedule allows no notification");
    let always = json!({"m2m:sch": {"se": {"sce": ["* * * * * * *"]}}});
    ask(&mut light, Request::update("/cse/light1/lamp/sub/times", &always)).expect(200, 2004);
    let sent = target.wait(3);
    assert_eq!((content(&sent[1]), content(&sent[2])), (json!("one"), json!("two")));
}

#[test]
fn statistics_are_counted() {
    let target = Upstream::start(Reply::answer(200, 2000, ""));
    let (gateway, mut light) = start(&target, json!({"nse": true, "ln": true}));
    put(&mut light, "one");
    put(&mut light, "two");
    let sent = target.wait(3);
    let category = sent[1].headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("X-M2M-EC"));
    assert_eq!(category.map(|(_, value)| value.as_str()), Some("4"), "{:?}", sent[1].headers);
    let entry = |light: &mut Light| {
        let shown = ask(light, Request::retrieve(SUB)).expect(200, 2000).json();
        shown["m2m:sub"]["nsi"][0].clone()
    };
    // Responses are stored within seconds.
    let found = eventually(|| {
        let found = entry(&mut light);
        if found["rsr"] == json!(2) { Ok(found) } else { Err(found) }
    });
    assert_eq!((&found["rqs"], &found["noec"]), (&json!(2), &json!(2)), "{found}");
    assert_eq!(found["tg"], format!("http://127.0.0.1:{}/", target.port()));
    drop(light);
    let gateway = gateway.kill_and_restart();
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    assert_eq!(entry(&mut light), found);
    let own = json!({"m2m:sub": {"nsi": []}});
    ask(&mut light, Request::update(SUB, &own)).expect_refusal(400, 4000);
    ask(&mut light, Request::update(SUB, &json!({"m2m:sub": {"nse": 1}})))
        .expect_refusal(400, 4000);
}

#[test]
fn former_events_are_reported() {
    let target = Upstream::start(Reply::answer(200, 2000, ""));
    let (_gateway, mut light) = start(&target, json!({"exc": 1}));
    for value in ["one", "two", "three"] {
        put(&mut light, value);
    }
    target.wait(2);
    let address = format!("http://127.0.0.1:{}/", target.port());
    let sub = json!({"m2m:sub": {"nu": [address], "enc": {"net": [3]}, "psn": 2}});
    ask(&mut light, Request::create(LAMP, 23, &sub)).expect(201, 2001);
    let sent = target.wait(5);
    assert_eq!((content(&sent[3]), content(&sent[4])), (json!("two"), json!("three")));
    for bad in [json!(0), json!(17), json!("2")] {
        let sub = json!({"m2m:sub": {"nu": [OWN], "psn": bad}});
        ask(&mut light, Request::create(LAMP, 23, &sub)).expect_refusal(400, 4000);
    }
}
