//! Batches of notifications, from outside. A batch that waits survives a kill.

use saegis_tests::{LIGHT1, Light, Message, Reply, Request, Setup, Upstream, eventually};
use serde_json::{Value, json};

const OWN: &str = "Clight-AE1";

/// Returns the contents of the instances in a batch.
fn contents(request: &Message) -> Vec<Value> {
    let content: Value = serde_json::from_slice(&request.body).unwrap();
    let batch = content["m2m:agn"]["m2m:sgn"].as_array().expect("a batch");
    batch.iter().map(|sgn| sgn["nev"]["rep"]["m2m:cin"]["con"].clone()).collect()
}

fn put(light: &mut Light, value: &str) {
    let instance = Request::create_instance("/cse/light1/lamp", value).from(OWN);
    light.ask(&instance).unwrap().expect(201, 2001);
}

#[test]
fn batch_survives_kill() {
    let target = Upstream::start(Reply::answer(200, 2000, ""));
    let gateway = Setup::new().with("notifications", "targets = [\"127.0.0.1\"]").start();
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    light.ask(&Request::create_ae("light1").from(OWN)).unwrap().expect(201, 2001);
    let lamp = Request::create_container("/cse/light1", "lamp").from(OWN);
    light.ask(&lamp).unwrap().expect(201, 2001);
    let address = format!("http://127.0.0.1:{}/", target.port());
    let sub = json!({"m2m:sub": {
        "nu": [address], "enc": {"net": [3]}, "bn": {"num": 2, "dur": "PT4S"},
    }});
    let sub = Request::create("/cse/light1/lamp", 23, &sub).from(OWN);
    light.ask(&sub).unwrap().expect(201, 2001);
    target.wait(1);
    for value in ["one", "two", "three"] {
        put(&mut light, value);
    }
    assert_eq!(contents(&target.wait(2)[1]), ["one", "two"]);
    drop(light);
    let _gateway = gateway.kill_and_restart();
    // The duration of the batch counts from its first event. A kill may repeat the former batch.
    eventually(|| match contents(target.requests().last().unwrap()) {
        last if last == ["three"] => Ok(()),
        last => Err(last),
    });
}

#[test]
fn new_targets_get_no_waiting_events() {
    let (first, second) = (
        Upstream::start(Reply::answer(200, 2000, "")),
        Upstream::start(Reply::answer(200, 2000, "")),
    );
    let gateway = Setup::new().with("notifications", "targets = [\"127.0.0.1\"]").start();
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    light.ask(&Request::create_ae("light1").from(OWN)).unwrap().expect(201, 2001);
    let lamp = Request::create_container("/cse/light1", "lamp").from(OWN);
    light.ask(&lamp).unwrap().expect(201, 2001);
    let address = |target: &Upstream| format!("http://127.0.0.1:{}/", target.port());
    let sub = json!({"m2m:sub": {
        "rn": "sub", "nu": [address(&first)], "enc": {"net": [3]}, "bn": {"num": 2, "dur": "PT1H"},
    }});
    let sub = Request::create("/cse/light1/lamp", 23, &sub).from(OWN);
    light.ask(&sub).unwrap().expect(201, 2001);
    first.wait(1);
    put(&mut light, "former");
    let change = json!({"m2m:sub": {"nu": [address(&second)]}});
    let change = Request::update("/cse/light1/lamp/sub", &change).from(OWN);
    light.ask(&change).unwrap().expect(200, 2004);
    second.wait(1);
    put(&mut light, "one");
    put(&mut light, "two");
    assert_eq!(contents(&second.wait(2)[1]), ["one", "two"]);
}
