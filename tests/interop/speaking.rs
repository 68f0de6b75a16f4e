//! Impersonation. ACME trusts X-M2M-Origin, and the gateway makes that safe.

use saegis_tests::{Gateway, Request, Tool, with_each_client};
use serde_json::json;

use crate::acme::{ADMINISTRATOR, Acme};
use crate::lights::{Light, create_ae, start};

with_each_client!(impersonation_through_gateway_is_refused);

const OWN: &str = "Clight-AE1";
const OTHER: &str = "Clight-AE2";

/// Returns requests of light 1 with another originator, and the responses of ACME to an authorized
/// client.
fn impersonating_requests() -> Vec<(Request, u16, u16)> {
    let lamp = "/~/mn-cse-123456/cse/light2/lamp";
    let light = "/~/mn-cse-123456/cse/light2";
    let base = "/~/mn-cse-123456/cse";
    let label = json!({ "m2m:cnt": { "lbl": ["stolen"] } });
    let renamed = json!({ "m2m:ae": { "rn": "mine", "api": "Nx", "rr": true, "srv": ["3"] } });
    vec![
        (Request::retrieve(&format!("{lamp}/la")).from(OTHER), 200, 2000),
        (Request::retrieve(&format!("{light}?fu=1")).from(OTHER), 200, 2000),
        (Request::create_instance(lamp, "off").from(OTHER), 201, 2001),
        (Request::update(lamp, &label).from(OTHER), 200, 2004),
        (Request::create_container(light, "den").from(OTHER), 201, 2001),
        (Request::retrieve(base).from(ADMINISTRATOR), 200, 2000),
        (Request::create_instance(lamp, "broken").from(ADMINISTRATOR), 201, 2001),
        (Request::delete(light).from(OTHER), 200, 2002),
        (Request::create(base, 2, &renamed).from(OTHER), 201, 2001),
    ]
}

/// Starts ACME with both lights registered, and returns the association of light 1.
fn with_both_lights(tool: Tool) -> (Acme, Gateway, Light) {
    let (acme, gateway) = start();
    let mut two = Light::two(tool, &gateway);
    two.register();
    two.send("on");
    two.client.close();
    let mut one = Light::one(tool, &gateway);
    one.register();
    (acme, gateway, one)
}

/// Each request, and every other form of the originator of light 2 or of an administrator.
fn impersonation_through_gateway_is_refused(tool: Tool) {
    let (acme, gateway, mut light) = with_both_lights(tool);
    let state = |acme: &Acme| {
        let lamp = acme.resource("cse/light2/lamp")["m2m:cnt"].to_string();
        let latest = acme.resource("cse/light2/lamp/la")["m2m:cin"]["con"].to_string();
        (acme.tree(), lamp, latest)
    };
    let before = state(&acme);
    for (wish, ..) in impersonating_requests() {
        light.client.ask(&wish).expect_refusal(403, 4106);
        // The association continues as light 1.
        light.ask(Request::retrieve("/cse/light1"), 200, 2000);
    }
    let lamp = || Request::retrieve("/cse/light2/lamp");
    for (from, status, rsc) in [
        ("/mn-cse-123456/Clight-AE2", 400, 4000),
        ("//in.provider.com/mn-cse-123456/Clight-AE2", 400, 4000),
        ("/mn-cse-123456", 400, 4000),
        ("Clight-AE1,Clight-AE2", 400, 4000),
        ("C", 403, 4106),
        ("S", 403, 4106),
        ("", 400, 4000),
    ] {
        light.client.ask(&lamp().from(from)).expect_refusal(status, rsc);
    }
    light.client.ask(&lamp()).expect_refusal(400, 4000);
    light.client.ask(&lamp().from(OWN).from(OTHER)).expect_refusal(400, 4000);
    light.client.ask(&lamp().from(OWN).header("X_M2M_Origin", OTHER)).expect_refusal(400, 4000);
    light.client.ask(&Request::retrieve("/cse/light2?fr=Clight-AE2").from(OWN)).expect(400, 4000);
    // Other entities in the content.
    for content in [
        json!({ "m2m:cnt": { "rn": "den", "cr": OTHER } }),
        json!({ "m2m:cnt": { "rn": "den", "cr": ADMINISTRATOR } }),
    ] {
        let create = Request::create("/cse/light1", 3, &content).from(OWN);
        light.client.ask(&create).expect_refusal(403, 4106);
    }
    let wrapped = json!({ "m2m:rqp": {
        "op": 4, "fr": OTHER, "to": "/mn-cse-123456/cse/light2", "rqi": "1", "rvi": "3",
    } });
    let notify = Request::new("POST", "/cse").header("Content-Type", "application/json");
    light.client.ask(&notify.body(&wrapped.to_string()).from(OWN)).expect_refusal(400, 4000);
    // The resources of light 2 are unchanged.
    assert_eq!(state(&acme), before);
    let mut two = Light::two(tool, &gateway);
    assert_eq!(two.latest(), "on");
}

#[test]
fn impersonation_succeeds_without_gateway() {
    let acme = Acme::start();
    let at = |path: &str| format!("/~/mn-cse-123456{path}");
    for (id, name) in [(OWN, "light1"), (OTHER, "light2")] {
        let path = at(&format!("/cse/{name}"));
        acme.ask(&create_ae(name).from(id)).expect(201, 2001);
        acme.ask(&Request::create_container(&path, "lamp").from(id)).expect(201, 2001);
    }
    let lamp = at("/cse/light2/lamp");
    acme.ask(&Request::create_instance(&lamp, "on").from(OTHER)).expect(201, 2001);
    // ACME enforces access control for a correct originator.
    for request in [Request::retrieve(&lamp), Request::create_instance(&lamp, "off")] {
        acme.ask(&request.from(OWN)).expect(403, 4103);
    }
    // All of these requests arrive over a connection without any credential.
    for (number, (wish, status, rsc)) in impersonating_requests().iter().enumerate() {
        let answer = acme.ask(wish).expect(*status, *rsc);
        match number {
            0 => assert_eq!(answer.json()["m2m:cin"]["con"], "on"),
            2 => {
                assert_eq!(acme.resource("cse/light2/lamp/la")["m2m:cin"]["con"], "off");
            }
            _ => {}
        }
    }
    let tree = acme.tree();
    assert!(
        !tree.contains("light2 ->") && tree.contains("mine -> m2m:ae | ri=Clight-AE2"),
        "{tree}"
    );
}
