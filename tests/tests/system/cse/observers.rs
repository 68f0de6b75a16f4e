//! The operator's AE that sees all resources, and the trail of it.

use std::fs;

use saegis_tests::{Gateway, LIGHT1, LIGHT2, Light, Request, Response, Setup, eventually};
use serde_json::{Value, json};

const OPERATOR: &str = "Clight-AE1";
const DEVICE: &str = "Clight-AE2";
const LAMP: &str = "/cse/light2/lamp";

fn ask(light: &mut Light, from: &str, request: Request) -> Response {
    light.ask(&request.from(from)).unwrap()
}

/// Returns the number of recorded requests of the operator to an address, with a part of the filter.
fn observed(gateway: &Gateway, to: &str, part: &str) -> usize {
    let trail = gateway.path("audit/trail.jsonl");
    let text = fs::read_to_string(trail).unwrap_or_default();
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let of = lines.filter(|line| line["event"] == "cse.observed");
    let of = of.filter(|line| {
        let filter = line["filter"].as_str().unwrap_or_default();
        line["originator"] == OPERATOR && line["to"] == to && filter.contains(part)
    });
    of.count()
}

#[test]
fn observer_sees_resources_and_is_recorded() {
    let gateway = Setup::new()
        .with("cse", "observers = [\"Clight-AE1\"]")
        .with("audit", "file = \"audit/trail.jsonl\"")
        .start();
    let mut operator = Light::connect(gateway.port(), LIGHT1).unwrap();
    ask(&mut operator, OPERATOR, Request::create_ae("light1")).expect(201, 2001);
    let mut device = Light::connect(gateway.port(), LIGHT2).unwrap();
    ask(&mut device, DEVICE, Request::create_ae("light2")).expect(201, 2001);
    ask(&mut device, DEVICE, Request::create_container("/cse/light2", "lamp")).expect(201, 2001);
    ask(&mut device, DEVICE, Request::create_instance(LAMP, "on")).expect(201, 2001);
    let channel = json!({"m2m:pch": {"rn": "channel"}});
    ask(&mut device, DEVICE, Request::create("/cse/light2", 15, &channel)).expect(201, 2001);

    let found = ask(&mut operator, OPERATOR, Request::retrieve("/cse?fu=1&ty=3"));
    assert_eq!(found.expect(200, 2000).json(), json!({"m2m:uril": ["cse/light2/lamp"]}));
    let latest = ask(&mut operator, OPERATOR, Request::retrieve(&format!("{LAMP}/la")));
    assert_eq!(latest.expect(200, 2000).json()["m2m:cin"]["con"], "on");
    // A long discovery is restarted with a lower priority, and recorded once.
    for _ in 0..150 {
        ask(&mut device, DEVICE, Request::create_instance(LAMP, "on")).expect(201, 2001);
    }
    let long = ask(&mut operator, OPERATOR, Request::retrieve(&format!("{LAMP}?fu=1&ty=4")));
    assert_eq!(long.expect(200, 2000).json()["m2m:uril"].as_array().unwrap().len(), 151);
    // The view serves no subscription, even with the privilege to create one.
    let rules = json!({"acr": [{"acor": [DEVICE], "acop": 63}, {"acor": [OPERATOR], "acop": 1}]});
    let own = json!({"acr": [{"acor": [DEVICE], "acop": 63}]});
    let acp = json!({"m2m:acp": {"rn": "acp", "pv": rules, "pvs": own}});
    ask(&mut device, DEVICE, Request::create("/cse/light2", 1, &acp)).expect(201, 2001);
    let door = json!({"m2m:cnt": {"rn": "door", "acpi": ["cse/light2/acp"]}});
    ask(&mut device, DEVICE, Request::create("/cse/light2", 3, &door)).expect(201, 2001);
    let sub = json!({"m2m:sub": {"nu": [OPERATOR]}});
    ask(&mut operator, OPERATOR, Request::create("/cse/light2/door", 23, &sub))
        .expect_refusal(403, 4103);
    ask(&mut operator, OPERATOR, Request::retrieve("/cse/light2/door")).expect(200, 2000);
    // A relative path from its own resource confirms others.
    let own = json!({"m2m:cnt": {"rn": "own"}});
    ask(&mut operator, OPERATOR, Request::create("/cse/light1", 3, &own)).expect(201, 2001);
    let relative = Request::retrieve("/cse/light1?fu=1&ty=3&arp=../../light2/lamp");
    let relative = ask(&mut operator, OPERATOR, relative).expect(200, 2000).json();
    assert_eq!(relative, json!({"m2m:uril": ["cse/light2/lamp"]}));
    // A refusal reveals something as well.
    ask(&mut operator, OPERATOR, Request::retrieve("/cse/light2/none")).expect_refusal(404, 4004);
    // It changes nothing, and does not see what belongs to one AE alone.
    for request in [
        Request::create_instance(LAMP, "off"),
        Request::update(LAMP, &json!({"m2m:cnt": {"lbl": ["x"]}})),
        Request::delete(LAMP),
        Request::retrieve("/cse/light2/channel"),
        Request::create(LAMP, 23, &json!({"m2m:sub": {"nu": [OPERATOR]}})),
    ] {
        ask(&mut operator, OPERATOR, request).expect_refusal(403, 4103);
    }
    // Others have no such view.
    ask(&mut device, DEVICE, Request::retrieve("/cse/light1")).expect_refusal(403, 4103);

    let number = |to: &str, part: &str| observed(&gateway, to, part);
    for (to, part) in [
        ("cse", "fu=1"),
        ("cse/light2/lamp/la", ""),
        ("cse/light1", "arp=../../light2/lamp"),
        ("cse/light2/none", ""),
        ("cse/light2/channel", ""),
    ] {
        eventually(|| if number(to, part) > 0 { Ok(()) } else { Err(to) });
    }
    assert_eq!(number("cse/light2/lamp", "ty=4"), 1);
}
