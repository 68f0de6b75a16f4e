//! Notifications in CBOR, for AEs that prefer it and for URLs that name it.

use saegis_tests::{
    Gateway, LIGHT1, LIGHT2, Light, ListeningAe, Message, Reply, Request, Setup, Upstream,
};
use serde_json::{Value, json};

const OWN: &str = "Clight-AE1";
const MEDIA: &str = "application/vnd.onem2m-ntfy+cbor";

/// Starts a gateway with light 1, which has this `csz` and point of access, and a container.
fn with_light(csz: &Value, poa: &str) -> (Gateway, Light) {
    let gateway = Setup::new().with("notifications", "targets = [\"127.0.0.1\"]").start();
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    let ae = json!({"m2m:ae": {
        "rn": "light1", "api": "Nlight", "rr": true, "srv": ["3"], "csz": csz, "poa": [poa],
    }});
    light.ask(&Request::create("/cse", 2, &ae).from(OWN)).unwrap().expect(201, 2001);
    let lamp = Request::create_container("/cse/light1", "lamp").from(OWN);
    light.ask(&lamp).unwrap().expect(201, 2001);
    (gateway, light)
}

fn url(target: &Upstream) -> String {
    format!("http://127.0.0.1:{}/", target.port())
}

fn subscription(target: &str, further: &Value) -> Request {
    let mut sub = json!({"rn": "sub", "nu": [target], "enc": {"net": [3]}});
    sub.as_object_mut().unwrap().extend(further.as_object().unwrap().clone());
    Request::create("/cse/light1/lamp", 23, &json!({ "m2m:sub": sub })).from(OWN)
}

fn put(light: &mut Light, value: &str) {
    let instance = Request::create_instance("/cse/light1/lamp", value).from(OWN);
    light.ask(&instance).unwrap().expect(201, 2001);
}

/// Asserts that a notification is in CBOR, with this root element and this `con`.
#[track_caller]
fn assert_cbor(notification: &Message, root: &str, con: &str) {
    assert_eq!(notification.values("content-type"), [MEDIA]);
    let text = |text: &str| [&[0x60 + u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    let start = [&[0xa1][..], &text(root)].concat();
    let body = &notification.body;
    assert!(body.starts_with(&start), "{}", String::from_utf8_lossy(body));
    let member = [text("con"), text(con)].concat();
    let has_member = body.windows(member.len()).any(|bytes| bytes == member);
    assert!(has_member, "{}", String::from_utf8_lossy(body));
}

#[test]
fn ae_is_notified_in_preferred_serialization() {
    let target = Upstream::start(Reply::answer(200, 2000, ""));
    let (_gateway, mut light) = with_light(&json!(["cbor", "json"]), &url(&target));
    light.ask(&subscription(OWN, &json!({}))).unwrap().expect(201, 2001);
    put(&mut light, "on");
    let sent = target.wait(1);
    assert_cbor(&sent[0], "m2m:sgn", "on");
    assert_eq!(
        sent[0].values("accept"),
        ["application/vnd.onem2m-res+cbor, application/json;q=0.5"]
    );
    let change = json!({"m2m:ae": {"csz": ["json", "cbor"]}});
    light.ask(&Request::update("/cse/light1", &change).from(OWN)).unwrap().expect(200, 2004);
    put(&mut light, "off");
    let sent = &target.wait(2)[1];
    assert_eq!(sent.values("content-type"), ["application/json"]);
    let content: Value = serde_json::from_slice(&sent.body).unwrap();
    assert_eq!(content["m2m:sgn"]["nev"]["rep"]["m2m:cin"]["con"], "off");
}

#[test]
fn batches_and_repetitions_are_in_cbor() {
    let unavailable = b"HTTP/1.1 503 Unavailable\r\nContent-Length: 0\r\n\r\n".to_vec();
    let target = Upstream::start(Reply::Bytes(unavailable));
    let (gateway, mut light) = with_light(&json!(["application/cbor"]), &url(&target));
    let batch = json!({"bn": {"num": 2, "dur": "PT1H"}});
    light.ask(&subscription(OWN, &batch)).unwrap().expect(201, 2001);
    put(&mut light, "on");
    put(&mut light, "off");
    assert_cbor(&target.wait(1)[0], "m2m:agn", "off");
    gateway.log().wait("notification.failed");
    target.reply_with(Reply::answer(200, 2000, ""));
    let repeated = &target.wait(2)[1];
    assert_cbor(repeated, "m2m:agn", "on");
    assert_cbor(repeated, "m2m:agn", "off");
}

#[test]
fn notification_over_association_is_in_cbor() {
    let mut ae = ListeningAe::with_key(LIGHT1);
    let (_gateway, mut light) = with_light(&json!(["cbor"]), &ae.url());
    light.ask(&subscription(OWN, &json!({}))).unwrap().expect(201, 2001);
    put(&mut light, "on");
    let notified = ae.request();
    assert_cbor(&notified, "m2m:sgn", "on");
    ae.answer(&notified, 2000, "");
}

#[test]
fn url_names_serialization() {
    let target = Upstream::start(Reply::answer(200, 2000, ""));
    let (_gateway, mut light) = with_light(&json!(["json"]), "http://127.0.0.1:1/");
    let xml = subscription(&format!("{}in?ct=xml", url(&target)), &json!({}));
    light.ask(&xml).unwrap().expect_refusal(501, 5001);
    let cbor = subscription(&format!("{}in?ct=cbor&x=1", url(&target)), &json!({}));
    light.ask(&cbor).unwrap().expect(201, 2001);
    let verification = &target.wait(1)[0];
    assert_eq!(verification.values("content-type"), [MEDIA]);
    put(&mut light, "on");
    let sent = &target.wait(2)[1];
    // The serialization is not part of the address.
    assert_eq!(sent.line, "POST /in?x=1 HTTP/1.1");
    assert_cbor(sent, "m2m:sgn", "on");
}

/// An AE that speaks only CBOR refuses in CBOR.
#[test]
fn refusal_in_cbor_is_understood() {
    let body = b"\xa1\x67m2m:dbg\x62no";
    let head = "HTTP/1.1 403 X\r\nX-M2M-RSC: 4101\r\nX-M2M-RI: <rqi>\r\n\
                Content-Type: application/cbor\r\nContent-Length: 12\r\n\r\n";
    let target = Upstream::start(Reply::Bytes([head.as_bytes(), body].concat()));
    let (gateway, _light) = with_light(&json!(["cbor"]), &url(&target));
    let mut other = Light::connect(gateway.port(), LIGHT2).unwrap();
    other.ask(&Request::create_ae("light2").from("Clight-AE2")).unwrap().expect(201, 2001);
    let lamp = Request::create_container("/cse/light2", "lamp").from("Clight-AE2");
    other.ask(&lamp).unwrap().expect(201, 2001);
    let sub = json!({"m2m:sub": {"nu": ["cse/light1"], "enc": {"net": [3]}}});
    let sub = Request::create("/cse/light2/lamp", 23, &sub).from("Clight-AE2");
    let refused = other.ask(&sub).unwrap().expect_refusal(500, 5204);
    assert!(refused.debug().contains("4101"), "{refused:?}");
    assert_eq!(target.wait(1)[0].values("content-type"), [MEDIA]);
}
