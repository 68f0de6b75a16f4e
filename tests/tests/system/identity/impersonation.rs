//! Impersonation is refused: TS-0003 clause 7.2.1 and TS-0004 clause 7.3.2.1, tested on an
//! association of light 1.

use saegis_tests::{
    Client, Gateway, LIGHT1, LIGHT2, Mark, Request, Response, Setup, Tool, with_each_client,
};
use serde_json::json;

with_each_client!(
    other_originator_is_refused,
    each_request_of_association_is_checked,
    repeated_originator_is_refused,
    originator_in_absolute_form_is_refused,
    missing_originator_or_request_id_is_refused,
    creator_or_ae_id_of_other_ae_is_refused,
    secured_inner_primitive_is_refused,
    registration_with_other_ae_id_is_refused,
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
    for unknown in ["Clight-AE3", "Clight-AE", "Clight-AE11", "clight-AE1x", "CLIGHT-AE1", "C", "S"]
    {
        let refused = light.ask(&Request::retrieve("/cse/light2").from(unknown));
        let expected = if unknown.starts_with('c') { (400, 4000) } else { (403, 4106) };
        refused.expect_refusal(expected.0, expected.1);
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

fn originator_in_absolute_form_is_refused(tool: Tool) {
    let (_gateway, mut light) = with_both_lights(tool);
    for from in [
        "/mn-cse-123456/Clight-AE1",
        "/mn-cse-123456/Clight-AE2",
        "//in.provider.com/mn-cse-123456/Clight-AE1",
        "//in.provider.com/mn-cse-123456/Clight-AE2",
        "/mn-cse-123456",
        "//in.provider.com/mn-cse-123456",
        "mn-cse-123456",
        "/",
        "//",
        "Clight-AE1/",
        "Clight-AE1/x",
        "C/light-AE1",
        "Clight%2DAE1",
        "\"Clight-AE1\"",
        "Clight-AE1;x",
    ] {
        light.ask(&Request::retrieve("/cse/light1").from(from)).expect_refusal(400, 4000);
    }
    let request = Request::retrieve("/cse/light1").from("Clight-AE1\u{e9}");
    light.ask(&request).expect_refusal(400, 4000);
    let long = format!("C{}", "x".repeat(2000));
    light.ask(&Request::retrieve("/cse/light1").from(&long)).expect_refusal(400, 4000);
    // Whitespace around a header value is not part of it.
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

/// The gateway cannot see the originator of an end-to-end secured primitive.
fn secured_inner_primitive_is_refused(tool: Tool) {
    let (_gateway, mut light) = with_both_lights(tool);
    for root in ["m2m:seci", "M2M:SECI"] {
        let content = json!({ root: { "sit": 4, "epo": "eyJhbGciOiJkaXIifQ..x.y.z" } });
        let container = Request::new("POST", "/cse")
            .header("Content-Type", "application/vnd.onem2m-ntfy+json")
            .body(&content.to_string());
        answer(&mut light, &container.clone().from("Clight-AE1")).expect_refusal(403, 4116);
        answer(&mut light, &container.from("Clight-AE2")).expect_refusal(403, 4106);
    }
}

fn creator_or_ae_id_of_other_ae_is_refused(tool: Tool) {
    let (_gateway, mut light) = with_both_lights(tool);
    for content in [
        json!({ "m2m:cnt": { "rn": "lamp", "cr": OTHER } }),
        json!({ "m2m:cnt": { "rn": "lamp", "cr": "/mn-cse-123456/Clight-AE2" } }),
        json!({ "m2m:cnt": { "rn": "lamp", "cr": "/mn-cse-123456/Clight-AE1" } }),
    ] {
        let request = Request::create("/cse/light1", 3, &content).from(OWN);
        light.ask(&request).expect_refusal(403, 4106);
    }
    // Twice, in both orders, because parsers differ in the member that they use.
    for (first, second) in [(OWN, OTHER), (OTHER, OWN)] {
        let content = format!(r#"{{"m2m:cnt":{{"rn":"lamp","cr":"{first}","cr":"{second}"}}}}"#);
        // With an escape in the name, too.
        for content in [content.replacen("\"cr\"", "\"\\u0063r\"", 1), content] {
            let request = Request::create_container("/cse/light1", "x").body(&content).from(OWN);
            let refused = light.ask(&request);
            assert!(matches!(refused.rsc(), Some(4000 | 4106)), "{refused:?}");
        }
    }
    let update = Request::update("/cse/light1", &json!({ "m2m:ae": { "aei": OTHER } }));
    light.ask(&update.from(OWN)).expect_refusal(403, 4106);
    light.ask(&Request::retrieve("/cse/light1/lamp").from(OWN)).expect(404, 4004);
    light.ask(&own()).expect(200, 2000);
}

fn registration_with_other_ae_id_is_refused(tool: Tool) {
    let gateway = Setup::new().start();
    let mut light = tool.connect(gateway.port(), LIGHT1);
    for from in [OTHER, "Canything", "C", "S"] {
        light.ask(&Request::create_ae("light").from(from)).expect_refusal(403, 4106);
    }
    light.ask(&Request::create_ae("light")).expect_refusal(403, 4106);
    light.ask(&Request::create_ae("light").from("/mn-cse-123456/Cx")).expect_refusal(400, 4000);
    let content = json!({ "m2m:ae": { "rn": "light", "api": "Nx", "rr": false, "aei": OTHER } });
    light.ask(&Request::create("/cse", 2, &content).from(OWN)).expect_refusal(403, 4106);
    light.ask(&Request::create_ae("light").from(OWN)).expect(201, 2001);
}
