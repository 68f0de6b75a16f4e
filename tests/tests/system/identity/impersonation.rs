//! Impersonation is refused: TS-0003 clause 7.2.1 and TS-0004 clause 7.3.2.1, tested on an
//! association of light 1. The forms that every binding has are in `impersonation_forms`.

use saegis_tests::{
    Client, Gateway, LIGHT1, LIGHT2, Mark, Request, Response, Setup, Tool, with_each_client,
};
use serde_json::json;

with_each_client!(
    other_originator_is_refused,
    each_request_of_association_is_checked,
    repeated_originator_is_refused,
    whitespace_around_originator_is_ignored,
    missing_originator_or_request_id_is_refused,
);

const OWN: &str = "Clight-AE1";
const OTHER: &str = "Clight-AE2";

/// Starts a gateway with both lights registered, and returns an association of light 1.
fn with_both_lights(tool: Tool) -> (Gateway, Client) {
    let gateway = Setup::new().start();
    let mut other = tool.connect(gateway.port(), LIGHT2);
    other.ask(&Request::create_ae("light2").from(OTHER)).expect(201, 2001);
    other.ask(&Request::create_container("/cse/light2", "lamp").from(OTHER)).expect(201, 2001);
    other.close();
    let mut light = tool.connect(gateway.port(), LIGHT1);
    light.ask(&Request::create_ae("light1").from(OWN)).expect(201, 2001);
    (gateway, light)
}

fn own() -> Request {
    Request::retrieve("/cse/light1").from(OWN)
}

/// Sends a request without checking the identifier of the response.
fn answer(light: &mut Client, request: &Request) -> Response {
    light.send(&request.bytes());
    light.read()
}

fn other_originator_is_refused(tool: Tool) {
    let (gateway, mut light) = with_both_lights(tool);
    let request = Request::retrieve("/cse/light2/lamp").from(OTHER);
    let mark = gateway.log().mark();
    let refused = light.ask(&request).expect_refusal(403, 4106);
    assert_eq!(refused.header("content-type"), Some("application/json"));
    let why = refused.debug();
    assert!(why.contains("X-M2M-Origin") && !why.contains(OTHER) && !why.contains(OWN), "{why}");

    let logged = gateway.log().wait_after(mark, "request.refused");
    assert_eq!(logged.number("rsc"), 4106);
    assert_eq!(logged.text("from"), OTHER);
    assert_eq!(logged.text("request_id"), request.id());
    assert_eq!(logged.text("credential_id"), format!("12-{}", LIGHT1.identity));

    for (request, what) in [
        (Request::create_instance("/cse/light2/lamp", "off"), "create"),
        (Request::update("/cse/light2/lamp", &json!({ "m2m:cnt": { "mni": 1 } })), "update"),
        (Request::delete("/cse/light2"), "delete"),
        (Request::retrieve("/cse/light1"), "retrieve of its own"),
        // Without a release version, the originator is still refused.
        (Request::retrieve("/cse/light2").without("X-M2M-RVI"), "release left out"),
    ] {
        let refused = light.ask(&request.from(OTHER));
        assert_eq!((refused.status(), refused.rsc()), (403, Some(4106)), "{what}");
    }
    // None of these requests had an effect.
    light.ask(&own()).expect(200, 2000);
    let mut other = tool.connect(gateway.port(), LIGHT2);
    let lamp = other.ask(&Request::retrieve("/cse/light2/lamp").from(OTHER)).expect(200, 2000);
    assert_eq!(lamp.json()["m2m:cnt"]["cni"], 0);
}

fn each_request_of_association_is_checked(tool: Tool) {
    let (gateway, mut light) = with_both_lights(tool);
    for _ in 0..3 {
        light.ask(&own()).expect(200, 2000);
        let other = Request::retrieve("/cse/light2/lamp").from(OTHER);
        light.ask(&other).expect_refusal(403, 4106);
    }
    light.ask(&own()).expect(200, 2000);
    // The same holds for pipelined requests.
    let requests = [own(), Request::delete("/cse/light2").from(OTHER), own()];
    let bytes: Vec<_> = requests.iter().flat_map(Request::bytes).collect();
    light.send(&bytes);
    for (request, rsc) in requests.iter().zip([2000, 4106, 2000]) {
        let response = light.read();
        assert_eq!(response.rsc(), Some(rsc), "{response:?}");
        assert_eq!(response.header("x-m2m-ri"), Some(request.id()));
    }
    assert_eq!(gateway.log().all(Mark::START, "association.established", 2).len(), 2);
}

fn repeated_originator_is_refused(tool: Tool) {
    let (_gateway, mut light) = with_both_lights(tool);
    let path = "/cse/light2/lamp";
    for (first, second) in [(OWN, OTHER), (OTHER, OWN), (OWN, OWN), (OWN, ""), ("", OWN)] {
        for name in ["X-M2M-Origin", "x-m2m-origin", "X-M2M-ORIGIN"] {
            let request = Request::retrieve(path).from(first).header(name, second);
            let refused = light.ask(&request).expect_refusal(400, 4000);
            assert!(refused.debug().contains("x-m2m-origin"), "{refused:?}");
        }
    }
    // Names that another server could map to X-M2M-Origin.
    for name in ["X_M2M_Origin", "x_m2m_origin", "X-M2M_Origin", "X_M2M-Origin"] {
        let request = Request::retrieve(path).from(OWN).header(name, OTHER);
        light.ask(&request).expect_refusal(400, 4000);
        let request = Request::retrieve(path).header(name, OTHER);
        light.ask(&request).expect_refusal(400, 4000);
    }
    for list in ["Clight-AE1, Clight-AE2", "Clight-AE1,Clight-AE2", "Clight-AE1 Clight-AE2"] {
        light.ask(&Request::retrieve(path).from(list)).expect_refusal(400, 4000);
    }
    light.ask(&own()).expect(200, 2000);
}

/// Whitespace around a header value is not part of it (RFC 9110 clause 5.5).
fn whitespace_around_originator_is_ignored(tool: Tool) {
    let (_gateway, mut light) = with_both_lights(tool);
    light.ask(&Request::retrieve("/cse/light1").from("  Clight-AE1 \t ")).expect(200, 2000);
}

fn missing_originator_or_request_id_is_refused(tool: Tool) {
    let (_gateway, mut light) = with_both_lights(tool);
    light.ask(&Request::retrieve("/cse/light1")).expect_refusal(400, 4000);
    light.ask(&Request::retrieve("/cse/light1").from("")).expect_refusal(400, 4000);
    let container = Request::create_container("/cse/light1", "lamp");
    light.ask(&container).expect_refusal(400, 4000);
    let unnamed = own().without("X-M2M-RI");
    let refused = answer(&mut light, &unnamed).expect_refusal(400, 4000);
    assert_eq!(refused.header("x-m2m-ri"), None);
    let empty = own().without("X-M2M-RI").header("X-M2M-RI", "");
    answer(&mut light, &empty).expect_refusal(400, 4000);
    let twice = own().header("X-M2M-RI", "another");
    answer(&mut light, &twice).expect_refusal(400, 4000);
    light.ask(&own()).expect(200, 2000);
}
