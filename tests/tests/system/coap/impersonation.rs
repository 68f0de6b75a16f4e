//! Forms of impersonation over CoAP: those of the HTTP suite, as options.

use saegis_tests::{CoapLight, CoapMessage, Gateway, LIGHT1, LIGHT2, Setup};
use serde_json::json;

const OWN: &str = "Clight-AE1";
const OTHER: &str = "Clight-AE2";
const CSE: &str = "~/mn-cse-123456/cse";
const FROM: u16 = 279;

fn with_both_lights() -> (Gateway, CoapLight) {
    let gateway = Setup::new().with_coap().start();
    let register = |light: &mut CoapLight, name: &str, from: &str| {
        let ae = json!({"m2m:ae": {"rn": name, "api": "Nlight", "rr": false}});
        light.ask(&CoapMessage::create(CSE, from, 2, &ae)).expect(0x41, 2001);
        let lamp = json!({"m2m:cnt": {"rn": "lamp"}});
        let to = format!("{CSE}/{name}");
        light.ask(&CoapMessage::create(&to, from, 3, &lamp)).expect(0x41, 2001);
    };
    let mut other = CoapLight::connect(gateway.coap_port(), LIGHT2).unwrap();
    register(&mut other, "light2", OTHER);
    let mut light = CoapLight::connect(gateway.coap_port(), LIGHT1).unwrap();
    register(&mut light, "light1", OWN);
    (gateway, light)
}

fn own() -> CoapMessage {
    CoapMessage::retrieve(&format!("{CSE}/light1"), OWN)
}

#[test]
fn other_originator_is_refused_in_each_form() {
    let (gateway, mut light) = with_both_lights();
    for (from, code, rsc) in [
        (OTHER, 0x83, 4106),
        ("Clight-AE3", 0x83, 4106),
        ("CLIGHT-AE1", 0x83, 4106),
        ("C", 0x83, 4106),
        ("S", 0x83, 4106),
        ("clight-AE1x", 0x80, 4000),
        ("/mn-cse-123456/Clight-AE1", 0x80, 4000),
        ("/mn-cse-123456/Clight-AE2", 0x80, 4000),
        ("//in.provider.com/mn-cse-123456/Clight-AE2", 0x80, 4000),
        ("/mn-cse-123456", 0x80, 4000),
        ("/", 0x80, 4000),
        ("", 0x80, 4000),
        ("Clight-AE1/", 0x80, 4000),
        ("Clight-AE1, Clight-AE2", 0x80, 4000),
        ("Clight%2DAE1", 0x80, 4000),
        ("Clight-AE1\0", 0x80, 4000),
        ("Clight-AE1\n", 0x80, 4000),
        ("Clight-AE1é", 0x80, 4000),
    ] {
        let request = own().without(FROM).option(FROM, from);
        light.ask(&request).expect(code, rsc);
    }
    let refused = gateway.log().wait("request.refused");
    assert_eq!(refused.text("from"), OTHER);
    light.ask(&own().without(FROM)).expect(0x80, 4000);
    light.ask(&own()).expect(0x45, 2000);
}

/// A second originator, or one in another place, is refused whatever the first one is.
#[test]
fn second_originator_is_refused() {
    let (_gateway, mut light) = with_both_lights();
    let other = CoapMessage::retrieve(&format!("{CSE}/light2"), OTHER);
    for (request, value) in [(own(), OTHER), (other.clone(), OWN), (own(), OWN), (own(), "")] {
        light.ask(&request.clone().option(FROM, value)).expect(0x82, 4000);
        // In the former table of numbers.
        light.ask(&request.clone().option(256, value)).expect(0x80, 4000);
        for query in ["fr", "from", "X-M2M-Origin"] {
            let answer = light.ask(&request.clone().option(15, format!("{query}={value}")));
            assert!(answer.code != 0x45, "{query} {answer:?}");
        }
    }
    // An option that is critical and not known.
    light.ask(&own().option(2049, "x")).expect(0x82, 4000);
    light.ask(&own().option(35, "coap://x/")).expect(0xA5, 5001);
    light.ask(&own()).expect(0x45, 2000);
}

/// Clients of Release 1 and 2 have other numbers. The answer has them too.
#[test]
fn former_numbers_are_checked_in_the_same_way() {
    let (_gateway, mut light) = with_both_lights();
    let former = |from: &str| {
        let path = CSE.split('/').fold(CoapMessage::new(1), |r, s| r.option(11, s));
        path.option(11, "light1").option(256, from).option(257, "r")
    };
    for (from, code, rsc) in [(OWN, 0x45, 2000), (OTHER, 0x83, 4106)] {
        let answer = light.ask(&former(from));
        assert_eq!((answer.code, answer.number(265)), (code, Some(rsc)), "{answer:?}");
        assert_eq!(answer.value(257), Some(&b"r"[..]));
        assert_eq!(answer.rsc(), None);
    }
}

#[test]
fn each_operation_of_other_originator_is_refused() {
    let (_gateway, mut light) = with_both_lights();
    let lamp = format!("{CSE}/light2/lamp");
    for request in [
        CoapMessage::create(&lamp, OTHER, 4, &json!({"m2m:cin": {"con": "x"}})),
        CoapMessage::retrieve(&lamp, OTHER),
        CoapMessage::request(3, &lamp, OTHER, "u").content(&json!({"m2m:cnt": {"mni": 1}})),
        CoapMessage::request(4, &lamp, OTHER, "d"),
        CoapMessage::request(2, &lamp, OTHER, "n").content(&json!({"m2m:sgn": {}})),
    ] {
        light.ask(&request).expect(0x83, 4106);
    }
    light.ask(&own()).expect(0x45, 2000);
    let mut other = CoapLight::connect(_gateway.coap_port(), LIGHT2).unwrap();
    let lamp = other.ask(&CoapMessage::retrieve(&lamp, OTHER)).expect(0x45, 2000);
    assert_eq!(lamp.json()["m2m:cnt"]["cni"], 0);
}

#[test]
fn content_of_other_originator_is_refused() {
    let (_gateway, mut light) = with_both_lights();
    let to = format!("{CSE}/light1");
    for cr in [OTHER, "/mn-cse-123456/Clight-AE2"] {
        let content = json!({"m2m:cnt": {"rn": "lamp2", "cr": cr}});
        light.ask(&CoapMessage::create(&to, OWN, 3, &content)).expect(0x83, 4106);
    }
    let aei = json!({"m2m:ae": {"aei": OTHER}});
    light.ask(&CoapMessage::request(3, &to, OWN, "u").content(&aei)).expect(0x83, 4106);
    let seci = |sit: u8| json!({"m2m:seci": {"sit": sit, "epo": "x.y.z"}});
    light.ask(&CoapMessage::request(2, CSE, OWN, "n").content(&seci(5))).expect(0x83, 4111);
    light.ask(&CoapMessage::request(2, CSE, OWN, "n").content(&seci(4))).expect(0x80, 4000);
}

/// A registration with the App-ID of another kind of device, and under another AE-ID.
#[test]
fn registration_that_policy_does_not_allow_is_refused() {
    let gateway = Setup::new().with_coap().start();
    let mut light = CoapLight::connect(gateway.coap_port(), LIGHT1).unwrap();
    let ae = json!({"m2m:ae": {"rn": "light1", "api": "Nlight", "rr": false}});
    light.ask(&CoapMessage::create(CSE, OTHER, 2, &ae)).expect(0x83, 4106);
    let named = json!({"m2m:ae": {"rn": "light1", "api": "Nlight", "rr": false, "aei": OTHER}});
    let answer = light.ask(&CoapMessage::create(CSE, OWN, 2, &named));
    assert!(matches!(answer.rsc(), Some(4000 | 4106)), "{answer:?}");
    light.ask(&CoapMessage::create(CSE, OWN, 2, &ae)).expect(0x41, 2001);
}
