//! Management objects of a node from outside: a device reports its battery, and its operator asks for
//! a reboot. The values survive a kill.

use saegis_tests::{LIGHT1, LIGHT2, Light, Reply, Request, Response, Setup, Upstream};
use serde_json::{Value, json};

const OPERATOR: &str = "Clight-AE1";
const DEVICE: &str = "Clight-AE2";

fn create(light: &mut Light, from: &str, path: &str, ty: u16, content: Value) -> Response {
    light.ask(&Request::create(path, ty, &content).from(from)).unwrap()
}

fn update(light: &mut Light, from: &str, path: &str, content: Value) -> Response {
    light.ask(&Request::update(path, &content).from(from)).unwrap()
}

#[test]
fn device_and_operator_share_management_objects() {
    let target = Upstream::start(Reply::answer(200, 2000, ""));
    let gateway = Setup::new()
        .with("cse", "administrators = [\"Clight-AE1\"]")
        .with("notifications", "targets = [\"127.0.0.1\"]")
        .start();
    let mut operator = Light::connect(gateway.port(), LIGHT1).unwrap();
    operator.ask(&Request::create_ae("light1").from(OPERATOR)).unwrap().expect(201, 2001);
    let mut device = Light::connect(gateway.port(), LIGHT2).unwrap();
    device.ask(&Request::create_ae("light2").from(DEVICE)).unwrap().expect(201, 2001);
    let rules = json!({"acr": [
        {"acor": [OPERATOR], "acop": 63},
        // Retrieve, update and discover. A subscription is the child that the device may create.
        {"acor": [DEVICE], "acop": 39, "acod": [{"chty": [23]}]},
    ]});
    let acp = json!({"m2m:acp": {"rn": "acp", "pv": rules, "pvs": {"acr": [
        {"acor": [OPERATOR], "acop": 63}]}}});
    create(&mut operator, OPERATOR, "/cse", 1, acp).expect(201, 2001);
    let node = json!({"m2m:nod": {"rn": "node", "ni": "n1", "acpi": ["cse/acp"]}});
    create(&mut operator, OPERATOR, "/cse", 14, node).expect(201, 2001);
    let battery = json!({"m2m:bat": {"rn": "battery", "mgd": 1006, "btl": 100, "bts": 1}});
    create(&mut device, DEVICE, "/cse/node", 13, battery.clone()).expect_refusal(403, 4103);
    create(&mut operator, OPERATOR, "/cse/node", 13, battery).expect(201, 2001);
    let reboot = json!({"m2m:rbo": {"rn": "reboot", "mgd": 1009}});
    create(&mut operator, OPERATOR, "/cse/node", 13, reboot).expect(201, 2001);

    let level = json!({"m2m:bat": {"btl": 12, "bts": 5}});
    update(&mut device, DEVICE, "/cse/node/battery", level).expect(200, 2004);
    for bad in [json!({"btl": 101}), json!({"bts": 0}), json!({"vr": "1"}), json!({"mgd": 1009})] {
        update(&mut device, DEVICE, "/cse/node/battery", json!({"m2m:bat": bad}))
            .expect_refusal(400, 4000);
    }
    create(&mut operator, OPERATOR, "/cse/node", 13, json!({"m2m:evl": {"mgd": 1010}}))
        .expect_refusal(501, 5001);

    let address = format!("http://127.0.0.1:{}/", target.port());
    create(&mut device, DEVICE, "/cse/node/reboot", 23, json!({"m2m:sub": {"nu": [address]}}))
        .expect(201, 2001);
    let order = json!({"m2m:rbo": {"rbo": true}});
    update(&mut operator, OPERATOR, "/cse/node/reboot", order).expect(200, 2004);
    let report: Value = serde_json::from_slice(&target.wait(2)[1].body).unwrap();
    assert_eq!(report["m2m:sgn"]["nev"]["rep"]["m2m:rbo"]["rbo"], true, "{report}");
    let both = json!({"m2m:rbo": {"rbo": true, "far": true}});
    update(&mut operator, OPERATOR, "/cse/node/reboot", both).expect_refusal(400, 4000);
    update(&mut device, DEVICE, "/cse/node/reboot", json!({"m2m:rbo": {"rbo": null}}))
        .expect(200, 2004);

    let gateway = gateway.kill_and_restart();
    let mut device = Light::connect(gateway.port(), LIGHT2).unwrap();
    let found = device.ask(&Request::retrieve("/cse/node/battery").from(DEVICE)).unwrap();
    let found = found.expect(200, 2000).json()["m2m:bat"].clone();
    assert_eq!(
        (&found["btl"], &found["bts"], &found["mgd"]),
        (&json!(12), &json!(5), &json!(1006))
    );
    let found = device.ask(&Request::retrieve("/cse/node/reboot").from(DEVICE)).unwrap();
    assert_eq!(found.expect(200, 2000).json()["m2m:rbo"]["rbo"], Value::Null);
}
