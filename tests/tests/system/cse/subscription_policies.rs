//! Policies of subscriptions, from outside.

use saegis_tests::{Gateway, LIGHT1, Light, Message, Reply, Request, Setup, Upstream};
use serde_json::{Value, json};

const OWN: &str = "Clight-AE1";
const LAMP: &str = "/cse/light1/lamp";

fn with_lamp() -> (Gateway, Light, Upstream, String) {
    let target = Upstream::start(Reply::answer(200, 2000, ""));
    let gateway = Setup::new().with("notifications", "targets = [\"127.0.0.1\"]").start();
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    light.ask(&Request::create_ae("light1").from(OWN)).unwrap().expect(201, 2001);
    let lamp = Request::create_container("/cse/light1", "lamp").from(OWN);
    light.ask(&lamp).unwrap().expect(201, 2001);
    let url = format!("http://127.0.0.1:{}/", target.port());
    (gateway, light, target, url)
}

fn subscribe(light: &mut Light, attributes: &Value) {
    let sub = Request::create(LAMP, 23, &json!({ "m2m:sub": attributes })).from(OWN);
    light.ask(&sub).unwrap().expect(201, 2001);
}

fn put(light: &mut Light, value: &str) {
    light.ask(&Request::create_instance(LAMP, value).from(OWN)).unwrap().expect(201, 2001);
}

fn notification(message: &Message) -> Value {
    let content: Value = serde_json::from_slice(&message.body).unwrap();
    content["m2m:sgn"].clone()
}

fn value(message: &Message) -> Value {
    notification(message)["nev"]["rep"]["m2m:cin"]["con"].clone()
}

#[test]
fn rate_of_notifications_is_limited() {
    let (_gateway, mut light, target, url) = with_lamp();
    subscribe(
        &mut light,
        &json!({
            "nu": [url], "enc": {"net": [3]}, "rl": {"mnn": 1, "tww": "PT2S"},
        }),
    );
    target.wait(1);
    for n in ["one", "two"] {
        put(&mut light, n);
    }
    let all = target.wait(3);
    assert_eq!([value(&all[1]), value(&all[2])], ["one", "two"]);
}

#[test]
fn subscription_ends_with_its_counter() {
    let (_gateway, mut light, target, url) = with_lamp();
    let group = json!({"m2m:grp": {"rn": "all", "mnm": 2, "mid": ["cse/light1/lamp"]}});
    light.ask(&Request::create("/cse/light1", 9, &group).from(OWN)).unwrap().expect(201, 2001);
    subscribe(
        &mut light,
        &json!({
            "rn": "sub", "nu": [url], "su": url, "enc": {"net": [3]}, "exc": 2,
            "gpi": "cse/light1/all",
        }),
    );
    let discover = Request::retrieve("/cse/light1?fu=1&gpi=cse/light1/all").from(OWN);
    let found = light.ask(&discover).unwrap().expect(200, 2000).json();
    assert_eq!(found["m2m:uril"], json!(["cse/light1/lamp/sub"]));
    target.wait(1);
    for n in ["one", "two", "three"] {
        put(&mut light, n);
    }
    let all = target.wait(4);
    assert_eq!([value(&all[1]), value(&all[2])], ["one", "two"]);
    assert_eq!(notification(&all[3])["sud"], true);
    let sub = Request::retrieve("/cse/light1/lamp/sub").from(OWN);
    light.ask(&sub).unwrap().expect_refusal(404, 4004);
}

#[test]
fn notification_has_content_of_its_type() {
    let (_gateway, mut light, target, url) = with_lamp();
    for nct in [1, 2, 3] {
        subscribe(&mut light, &json!({"nu": [url], "nct": nct, "nec": 100 + nct}));
    }
    target.wait(3);
    let change = json!({"m2m:cnt": {"lbl": ["new"]}});
    light.ask(&Request::update(LAMP, &change).from(OWN)).unwrap().expect(200, 2004);
    let all = target.wait(6);
    let of = |nct: &str| {
        let found = all.iter().find(|message| message.values("x-m2m-ec") == [nct]);
        notification(found.expect("its notification"))["nev"]["rep"].clone()
    };
    let whole = of("101");
    assert_eq!(
        (&whole["m2m:cnt"]["rn"], &whole["m2m:cnt"]["lbl"]),
        (&json!("lamp"), &json!(["new"]))
    );
    let modified = of("102");
    assert!(
        modified["m2m:cnt"].get("rn").is_none() && modified["m2m:cnt"]["lbl"] == json!(["new"])
    );
    assert!(of("103")["m2m:uri"].is_string());
    for (nct, rsc) in [(4, 5001), (5, 4000), (6, 4000)] {
        let sub = json!({"m2m:sub": {"nu": [url], "nct": nct}});
        let refused = light.ask(&Request::create(LAMP, 23, &sub).from(OWN)).unwrap();
        assert_eq!(refused.rsc(), Some(rsc), "{nct}");
    }
}
