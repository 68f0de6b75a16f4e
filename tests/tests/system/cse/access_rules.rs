//! Groups and attributes in access control rules from outside. A stranger that takes the name of a
//! member gets nothing, also after a kill.

use saegis_tests::{LIGHT1, LIGHT2, Light, Request, Response, Setup};
use serde_json::{Value, json};

const OWNER: &str = "Clight-AE1";
const GUEST: &str = "Clight-AE2";
const LAMP: &str = "/cse/light1/lamp";

fn ask(light: &mut Light, from: &str, request: Request) -> Response {
    light.ask(&request.from(from)).unwrap()
}

fn create(light: &mut Light, from: &str, path: &str, ty: u16, content: Value) -> Response {
    ask(light, from, Request::create(path, ty, &content))
}

fn rules(rules: Value) -> Value {
    let mut all = rules.as_array().unwrap().clone();
    all.push(json!({"acor": [OWNER], "acop": 63}));
    json!({ "acr": all })
}

/// Registers both lights. The second one lets the first retrieve it, so that it can be a member.
fn start(owner: &mut Light, guest: &mut Light) {
    ask(owner, OWNER, Request::create_ae("light1")).expect(201, 2001);
    ask(guest, GUEST, Request::create_ae("light2")).expect(201, 2001);
    let own = json!({"acr": [{"acor": [GUEST], "acop": 63}, {"acor": [OWNER], "acop": 2}]});
    let acp = json!({"m2m:acp": {"rn": "acp", "pv": own, "pvs": own}});
    create(guest, GUEST, "/cse/light2", 1, acp).expect(201, 2001);
    let open = json!({"m2m:ae": {"acpi": ["cse/light2/acp"]}});
    ask(guest, GUEST, Request::update("/cse/light2", &open)).expect(200, 2004);
}

/// Creates the lamp of the first light with a policy.
fn create_lamp(owner: &mut Light, privileges: Value) {
    let own = rules(json!([]));
    let acp = json!({"m2m:acp": {"rn": "acp", "pv": privileges, "pvs": own}});
    create(owner, OWNER, "/cse/light1", 1, acp).expect(201, 2001);
    let cnt = json!({"m2m:cnt": {"rn": "lamp", "lbl": ["room"], "acpi": ["cse/light1/acp"]}});
    create(owner, OWNER, "/cse/light1", 3, cnt).expect(201, 2001);
}

#[test]
fn group_of_guests_has_access() {
    let gateway = Setup::new().start();
    let mut owner = Light::connect(gateway.port(), LIGHT1).unwrap();
    let mut guest = Light::connect(gateway.port(), LIGHT2).unwrap();
    start(&mut owner, &mut guest);
    // A group must exist when it is named.
    let guests = rules(json!([{"acor": ["cse/light1/guests"], "acop": 2}]));
    let early = json!({"m2m:acp": {"rn": "early", "pv": guests, "pvs": rules(json!([]))}});
    create(&mut owner, OWNER, "/cse/light1", 1, early).expect_refusal(400, 4000);
    let group = json!({"m2m:grp": {"rn": "guests", "mnm": 8, "mid": ["cse/light2"]}});
    create(&mut owner, OWNER, "/cse/light1", 9, group).expect(201, 2001);
    create_lamp(&mut owner, guests.clone());
    ask(&mut guest, GUEST, Request::retrieve(LAMP)).expect(200, 2000);
    create(&mut guest, GUEST, LAMP, 4, json!({"m2m:cin": {"con": 1}})).expect_refusal(403, 4103);
    // The guest cannot name the group of another AE, which it does not see.
    let foreign =
        json!({"m2m:acp": {"pv": guests, "pvs": {"acr": [{"acor": [GUEST], "acop": 63}]}}});
    create(&mut guest, GUEST, "/cse/light2", 1, foreign).expect_refusal(400, 4000);

    let gateway = gateway.kill_and_restart();
    let mut owner = Light::connect(gateway.port(), LIGHT1).unwrap();
    let mut guest = Light::connect(gateway.port(), LIGHT2).unwrap();
    ask(&mut guest, GUEST, Request::retrieve(LAMP)).expect(200, 2000);
    ask(&mut owner, OWNER, Request::delete("/cse/light1/guests")).expect(200, 2002);
    ask(&mut guest, GUEST, Request::retrieve(LAMP)).expect_refusal(403, 4103);
    // Another group with the same name is not meant.
    let group = json!({"m2m:grp": {"rn": "guests", "mnm": 8, "mid": ["cse/light2"]}});
    create(&mut owner, OWNER, "/cse/light1", 9, group).expect(201, 2001);
    ask(&mut guest, GUEST, Request::retrieve(LAMP)).expect_refusal(403, 4103);
}

#[test]
fn rule_is_limited_to_attributes() {
    let gateway = Setup::new().start();
    let mut owner = Light::connect(gateway.port(), LIGHT1).unwrap();
    let mut guest = Light::connect(gateway.port(), LIGHT2).unwrap();
    start(&mut owner, &mut guest);
    for bad in [json!([]), json!("lbl"), json!(["l bl"]), json!([1])] {
        let pv = rules(json!([{"acor": [GUEST], "acop": 2, "aca": bad}]));
        let acp = json!({"m2m:acp": {"pv": pv, "pvs": rules(json!([]))}});
        create(&mut owner, OWNER, "/cse/light1", 1, acp).expect_refusal(400, 4000);
    }
    create_lamp(&mut owner, rules(json!([{"acor": [GUEST], "acop": 63, "aca": ["lbl"]}])));
    let gateway = gateway.kill_and_restart();
    let mut guest = Light::connect(gateway.port(), LIGHT2).unwrap();
    let label = Request::retrieve("/cse/light1/lamp?atrl=lbl");
    let found = ask(&mut guest, GUEST, label).expect(200, 2000).json();
    assert_eq!(found, json!({"m2m:cnt": {"lbl": ["room"]}}));
    for path in [LAMP, "/cse/light1/lamp?atrl=lbl+ct", "/cse/light1/lamp?rcn=4"] {
        ask(&mut guest, GUEST, Request::retrieve(path)).expect_refusal(403, 4103);
    }
    let change = json!({"m2m:cnt": {"lbl": ["hall"]}});
    let changed = ask(&mut guest, GUEST, Request::update(LAMP, &change)).expect(200, 2004).json();
    assert_eq!(changed, change);
    let more = json!({"m2m:cnt": {"lbl": ["hall"], "mni": 1}});
    ask(&mut guest, GUEST, Request::update(LAMP, &more)).expect_refusal(403, 4103);
    ask(&mut guest, GUEST, Request::delete(LAMP)).expect_refusal(403, 4103);
    let found =
        ask(&mut guest, GUEST, Request::retrieve("/cse?fu=1&ty=3")).expect(200, 2000).json();
    assert_eq!(found, json!({"m2m:uril": []}));
}
