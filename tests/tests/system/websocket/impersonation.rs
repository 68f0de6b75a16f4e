//! Forms of impersonation over WebSocket: those of the HTTP suite, as primitives.

use saegis_tests::{Gateway, LIGHT1, LIGHT2, Light, Request, Setup, WebSocket};
use serde_json::json;

const OWN: &str = "Clight-AE1";
const OTHER: &str = "Clight-AE2";

fn with_both_lights() -> (Gateway, WebSocket) {
    let gateway = Setup::new().start();
    let mut other = Light::connect(gateway.port(), LIGHT2).unwrap();
    let ask = |light: &mut Light, request: Request, from: &str| {
        light.ask(&request.from(from)).unwrap().expect(201, 2001);
    };
    ask(&mut other, Request::create_ae("light2"), OTHER);
    ask(&mut other, Request::create_container("/cse/light2", "lamp"), OTHER);
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    ask(&mut light, Request::create_ae("light1"), OWN);
    let light = light.websocket(&[("Sec-WebSocket-Protocol", "oneM2M.json")]).unwrap();
    (gateway, light)
}

/// Sends a text, and returns the status code of the response.
fn rsc(light: &mut WebSocket, text: &str) -> u64 {
    light.send_text(text);
    light.primitive()["rsc"].as_u64().unwrap()
}

/// Retrieves the AE itself with that member for the originator.
fn with_originator(light: &mut WebSocket, member: &str) -> u64 {
    rsc(light, &format!(r#"{{"op":2,"to":"cse/light1","rqi":"r","rvi":"3"{member}}}"#))
}

#[test]
fn other_originator_is_refused_in_each_form() {
    let (_gateway, mut light) = with_both_lights();
    for (from, code) in [
        (OTHER, 4106),
        ("Clight-AE3", 4106),
        ("CLIGHT-AE1", 4106),
        ("C", 4106),
        ("S", 4106),
        ("clight-AE1x", 4000),
        ("/mn-cse-123456/Clight-AE1", 4000),
        ("/mn-cse-123456/Clight-AE2", 4000),
        ("//in.provider.com/mn-cse-123456/Clight-AE2", 4000),
        ("/mn-cse-123456", 4000),
        ("mn-cse-123456", 4000),
        ("/", 4000),
        ("", 4000),
        ("Clight-AE1/", 4000),
        ("Clight-AE1, Clight-AE2", 4000),
        ("Clight%2DAE1", 4000),
        ("Clight-AE1;x", 4000),
        ("Clight-AE1\\u0000", 4000),
        ("Clight-AE1\\n", 4000),
        ("Clight-AE1é", 4000),
    ] {
        let got = with_originator(&mut light, &format!(r#","fr":"{from}""#));
        assert_eq!(got, code, "{from}");
    }
    for member in [
        "",
        r#","fr":null"#,
        r#","fr":["Clight-AE1"]"#,
        r#","fr":{"x":"Clight-AE1"}"#,
        r#","fr":"Clight-AE1","fr":"Clight-AE2""#,
        r#","fr":"Clight-AE2","fr":"Clight-AE1""#,
        r#","fr":"Clight-AE1","\u0066r":"Clight-AE2""#,
        r#","fr":"Clight-AE1","FR":"Clight-AE2""#,
        r#","fr":"Clight-AE1","from":"Clight-AE2""#,
        r#","fr":"Clight-AE1","X-M2M-Origin":"Clight-AE2""#,
        r#","fr":"Clight-AE1","fc":{"atr":[{"nm":"fr","val":"Clight-AE2"}]}"#,
    ] {
        assert_eq!(with_originator(&mut light, member), 4000, "{member}");
    }
    assert_eq!(with_originator(&mut light, r#","fr":"Clight-AE1""#), 2000);
}

#[test]
fn each_operation_of_other_originator_is_refused() {
    let (_gateway, mut light) = with_both_lights();
    for request in [
        json!({"op": 1, "to": "cse/light2/lamp", "ty": 4, "pc": {"m2m:cin": {"con": "x"}}}),
        json!({"op": 2, "to": "cse/light2/lamp"}),
        json!({"op": 3, "to": "cse/light2/lamp", "pc": {"m2m:cnt": {"mni": 1}}}),
        json!({"op": 4, "to": "cse/light2"}),
        json!({"op": 5, "to": "cse/light2", "pc": {"m2m:sgn": {}}}),
    ] {
        let mut request = request;
        request["fr"] = json!(OTHER);
        light.expect(request, 4106);
    }
    light.expect(json!({"op": 2, "to": "cse/light1", "fr": OWN}), 2000);
}

#[test]
fn content_of_other_originator_is_refused() {
    let (_gateway, mut light) = with_both_lights();
    for cr in [OTHER, "/mn-cse-123456/Clight-AE2", "/mn-cse-123456/Clight-AE1"] {
        let pc = json!({"m2m:cnt": {"rn": "lamp", "cr": cr}});
        light.expect(json!({"op": 1, "to": "cse/light1", "fr": OWN, "ty": 3, "pc": pc}), 4106);
    }
    let pc = json!({"m2m:ae": {"aei": OTHER}});
    light.expect(json!({"op": 3, "to": "cse/light1", "fr": OWN, "pc": pc}), 4106);
    for (first, second) in [(OWN, OTHER), (OTHER, OWN)] {
        for name in ["cr", "\\u0063r", "CR"] {
            let text = format!(
                r#"{{"op":1,"to":"cse/light1","fr":"{OWN}","rqi":"r","ty":3,"pc":{{"m2m:cnt":{{"cr":"{first}","{name}":"{second}"}}}}}}"#
            );
            assert_eq!(rsc(&mut light, &text), 4000, "{text}");
        }
    }
    let seci = json!({"m2m:seci": {"sit": 4, "epo": "x.y.z"}});
    light.expect(json!({"op": 5, "to": "cse", "fr": OWN, "pc": seci}), 4116);
    light.expect(json!({"op": 5, "to": "cse", "fr": OTHER, "pc": seci}), 4106);
    // An AE is not created under the name of another type.
    let ae = json!({"m2m:ae": {"rn": "x", "api": "Nx", "rr": false}});
    light.expect(json!({"op": 1, "to": "cse", "fr": OWN, "ty": 3, "pc": ae}), 4000);
}

#[test]
fn registration_with_other_ae_id_is_refused() {
    let gateway = Setup::new().start();
    let light = Light::connect(gateway.port(), LIGHT1).unwrap();
    let mut light = light.websocket(&[("Sec-WebSocket-Protocol", "oneM2M.json")]).unwrap();
    let ae = json!({"m2m:ae": {"rn": "light", "api": "Nx", "rr": false, "srv": ["3"]}});
    for from in [OTHER, "Canything", "C", "S"] {
        light.expect(json!({"op": 1, "to": "cse", "fr": from, "ty": 2, "pc": ae}), 4106);
    }
    light.expect(json!({"op": 1, "to": "cse", "ty": 2, "pc": ae}), 4106);
    light.expect(json!({"op": 1, "to": "cse", "fr": OWN, "ty": 2, "pc": ae}), 2001);
}
