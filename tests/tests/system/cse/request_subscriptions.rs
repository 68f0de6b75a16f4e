//! Subscriptions to a `<request>`: its originator is notified of the result instead of polling it.

use saegis_tests::{Gateway, LIGHT1, LIGHT2, Light, Message, Reply, Request, Setup, Upstream};
use serde_json::{Value, json};

const OWN: &str = "Clight-AE1";
const OTHER: &str = "Clight-AE2";

/// Starts a gateway with light 1.
fn with_light() -> (Gateway, Light) {
    let gateway = Setup::new()
        .with("notifications", "targets = [\"127.0.0.1\"]")
        .with("notifications", "timeout-seconds = 60")
        .start();
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    light.ask(&Request::create_ae("light1").from(OWN)).unwrap().expect(201, 2001);
    (gateway, light)
}

/// Requests a container, 50 minutes from now. Returns the address of the `<request>`.
fn begin(light: &mut Light) -> String {
    let content = json!({"m2m:cnt": {"rn": "lamp"}});
    let create = Request::create("/cse/light1?rt=1", 3, &content).from(OWN);
    let response = light.ask(&create.header("X-M2M-OET", "3000000")).unwrap().expect(202, 1001);
    format!("/~{}", response.json()["m2m:uri"].as_str().unwrap())
}

fn subscription(path: &str, target: &Upstream, criteria: Value) -> Request {
    let url = format!("http://127.0.0.1:{}/", target.port());
    let sub = json!({"m2m:sub": {"rn": "sub", "nu": [url], "enc": criteria}});
    Request::create(path, 23, &sub)
}

fn event(notification: &Message) -> Value {
    let content: Value = serde_json::from_slice(&notification.body).unwrap();
    content["m2m:sgn"]["nev"].clone()
}

#[test]
fn originator_is_notified_of_result_and_deletion() {
    let target = Upstream::start(Reply::answer(200, 2000, ""));
    let (_gateway, mut light) = with_light();
    // A request that is executed until its own target responds.
    let slow = Upstream::start(Reply::Pending);
    let create = subscription("/cse/light1?rt=1", &slow, json!({"net": [3]}));
    let accepted = light.ask(&create.from(OWN)).unwrap().expect(202, 1001);
    let path = format!("/~{}", accepted.json()["m2m:uri"].as_str().unwrap());
    let sub = subscription(&path, &target, json!({"net": [1, 2]}));
    light.ask(&sub.from(OWN)).unwrap().expect(201, 2001);
    slow.reply_with(Reply::answer(200, 2000, ""));
    let result = event(&target.wait(2)[1]);
    let request = &result["rep"]["m2m:req"];
    assert_eq!((&result["net"], &request["rs"]), (&json!(1), &json!(1)), "{result}");
    assert_eq!(request["ors"]["rsc"], 2001, "{result}");
    assert_eq!(request["ors"]["pc"]["m2m:sub"]["rn"], "sub", "{result}");
    light.ask(&Request::delete(&path).from(OWN)).unwrap().expect(200, 2002);
    assert_eq!(event(&target.wait(3)[2])["net"], 2);
}

#[test]
fn interruption_of_request_is_notified_after_kill() {
    let target = Upstream::start(Reply::answer(200, 2000, ""));
    let (gateway, mut light) = with_light();
    let path = begin(&mut light);
    let sub = subscription(&path, &target, json!({"net": [1]}));
    light.ask(&sub.from(OWN)).unwrap().expect(201, 2001);
    drop(light);
    let _gateway = gateway.kill_and_restart();
    let failed = event(&target.wait(2)[1]);
    assert_eq!(failed["rep"]["m2m:req"]["rs"], 2, "{failed}");
    assert_eq!(failed["rep"]["m2m:req"]["ors"]["rsc"], 5000, "{failed}");
}

#[test]
fn only_originator_subscribes_to_request() {
    let target = Upstream::start(Reply::answer(200, 2000, ""));
    let (gateway, mut light) = with_light();
    let path = begin(&mut light);
    let mut other = Light::connect(gateway.port(), LIGHT2).unwrap();
    other.ask(&Request::create_ae("light2").from(OTHER)).unwrap().expect(201, 2001);
    let sub = subscription(&path, &target, json!({"net": [1]}));
    other.ask(&sub.from(OTHER)).unwrap().expect_refusal(403, 4103);
    // Its update by the CSE waits for nobody.
    let sub = json!({"m2m:sub": {"nu": [OWN], "enc": {"net": [7]}}});
    light.ask(&Request::create(&path, 23, &sub).from(OWN)).unwrap().expect_refusal(400, 4000);
    assert!(target.requests().is_empty(), "no target is verified for a refused subscription");
}
