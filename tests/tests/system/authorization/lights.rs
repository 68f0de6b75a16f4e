//! Two lights, of which the first one owns resources that the second one asks for.

use saegis_tests::{Gateway, LIGHT1, LIGHT2, Light, Request, Response, Setup};
use serde_json::{Value, json};

pub const OWNER: &str = "Clight-AE1";
pub const GUEST: &str = "Clight-AE2";
pub const LAMP: &str = "/cse/light1/lamp";
pub const TECHNICIAN: &str = "technician@in.provider.com";

pub fn ask(light: &mut Light, from: &str, request: Request) -> Response {
    light.ask(&request.from(from)).unwrap()
}

/// Registers both lights, and creates a policy of the first one, which may do everything. Technicians may
/// as well, and `others` are further rules.
pub fn registered(setup: Setup, others: &[Value]) -> (Gateway, Light, Light) {
    let gateway = setup.start();
    let mut owner = Light::connect(gateway.port(), LIGHT1).unwrap();
    let mut guest = Light::connect(gateway.port(), LIGHT2).unwrap();
    ask(&mut owner, OWNER, Request::create_ae("light1")).expect(201, 2001);
    ask(&mut guest, GUEST, Request::create_ae("light2")).expect(201, 2001);
    let own = json!({"acor": [OWNER], "acop": 63});
    let technicians = json!({"acor": [TECHNICIAN], "acop": 63});
    let rules = [&[own.clone(), technicians], others].concat();
    let acp = json!({"m2m:acp": {"rn": "acp", "pv": {"acr": rules}, "pvs": {"acr": [own]}}});
    ask(&mut owner, OWNER, Request::create("/cse/light1", 1, &acp)).expect(201, 2001);
    (gateway, owner, guest)
}

/// Creates a container of the first light.
pub fn create_container(owner: &mut Light, container: &Value) {
    let content = json!({ "m2m:cnt": container });
    ask(owner, OWNER, Request::create("/cse/light1", 3, &content)).expect(201, 2001);
}
