//! FlexContainers with built-in and own definitions, from outside: the state of a light, its earlier
//! states, notifications, and what survives a kill.

use saegis_tests::{LIGHT1, LIGHT2, Light, Request, Response, Setup};
use serde_json::{Value, json};

const OWN: &str = "Clight-AE1";
const OTHER: &str = "Clight-AE2";
const SWITCH: &str = "org.onem2m.common.moduleclass.binarySwitch";

const BLIND: &str = r#"
[[flex-container]]
definition = "com.example.blind"
root = "ex:blind"
required = { position = "non-negative-integer" }
optional = { moving = "boolean" }
"#;

fn ask(light: &mut Light, request: Request) -> Response {
    light.ask(&request.from(OWN)).unwrap()
}

fn create(light: &mut Light, path: &str, ty: u16, content: Value) -> Response {
    ask(light, Request::create(path, ty, &content))
}

fn retrieve(light: &mut Light, path: &str) -> Value {
    ask(light, Request::retrieve(path)).expect(200, 2000).json()
}

fn switch(state: bool) -> Request {
    Request::update("/cse/light1/lamp/switch", &json!({"cod:binSh": {"state": state}}))
}

/// Creates a light with its switch, which keeps earlier states.
fn create_lamp(light: &mut Light) {
    ask(light, Request::create_ae("light1")).expect(201, 2001);
    let device =
        json!({"cod:devLt": {"rn": "lamp", "cnd": "org.onem2m.common.device.deviceLight"}});
    create(light, "/cse/light1", 28, device).expect(201, 2001);
    let module = json!({"cod:binSh": {
        "rn": "switch", "cnd": SWITCH, "state": false, "fcied": true, "mni": 3,
    }});
    let made = create(light, "/cse/light1/lamp", 28, module).expect(201, 2001).json();
    assert_eq!(made["cod:binSh"]["cni"], 1);
}

#[test]
fn changes_of_light_are_recorded() {
    let gateway = Setup::new().start();
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    create_lamp(&mut light);
    for state in [true, false, true] {
        ask(&mut light, switch(state)).expect(200, 2004);
    }
    let now = retrieve(&mut light, "/cse/light1/lamp/switch");
    assert_eq!((&now["cod:binSh"]["state"], &now["cod:binSh"]["cni"]), (&json!(true), &json!(3)));
    let latest = retrieve(&mut light, "/cse/light1/lamp/switch/la");
    assert_eq!((&latest["cod:binSh"]["ty"], &latest["cod:binSh"]["st"]), (&json!(58), &json!(3)));
    let oldest = retrieve(&mut light, "/cse/light1/lamp/switch/ol");
    assert_eq!(oldest["cod:binSh"]["state"], true);
    let found = retrieve(&mut light, "/cse/light1?fu=1&state=false");
    assert_eq!(found["m2m:uril"].as_array().map(Vec::len), Some(1), "{found}");
    // Another light has no access.
    let mut other = Light::connect(gateway.port(), LIGHT2).unwrap();
    other.ask(&Request::create_ae("light2").from(OTHER)).unwrap().expect(201, 2001);
    for request in [
        Request::retrieve("/cse/light1/lamp/switch"),
        Request::retrieve("/cse/light1/lamp/switch/la"),
        switch(false),
    ] {
        other.ask(&request.from(OTHER)).unwrap().expect_refusal(403, 4103);
    }
    // A kill loses nothing.
    drop((light, other));
    let gateway = gateway.kill_and_restart();
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    assert_eq!(retrieve(&mut light, "/cse/light1/lamp/switch"), now);
    assert_eq!(retrieve(&mut light, "/cse/light1/lamp/switch/la"), latest);
    ask(&mut light, Request::delete("/cse/light1/lamp")).expect(200, 2002);
    ask(&mut light, Request::retrieve("/cse/light1/lamp/switch")).expect_refusal(404, 4004);
}

#[test]
fn flex_container_is_checked_by_its_definition() {
    let setup = Setup::new().with("cse", "definitions = \"flex-containers.toml\"");
    setup.write("flex-containers.toml", BLIND.as_bytes());
    let gateway = setup.start();
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    ask(&mut light, Request::create_ae("light1")).expect(201, 2001);
    let blind =
        |position: Value| json!({"ex:blind": {"cnd": "com.example.blind", "position": position}});
    create(&mut light, "/cse/light1", 28, blind(json!(5))).expect(201, 2001);
    create(&mut light, "/cse/light1", 28, blind(json!("up"))).expect_refusal(400, 4000);
    let unknown = json!({"ex:blind": {"cnd": "com.example.door", "position": 5}});
    create(&mut light, "/cse/light1", 28, unknown).expect_refusal(501, 4125);
    let missing = json!({"cod:binSh": {"cnd": SWITCH}});
    let missing = create(&mut light, "/cse/light1", 28, missing);
    assert!(missing.expect_refusal(400, 4000).debug().contains("state"));
    let instance = json!({"cod:binSh": {"state": true}});
    create(&mut light, "/cse/light1", 58, instance).expect_refusal(405, 4005);
}
