//! Notifications to AEs at a `coaps://` address, over an association in which the gateway is the
//! client (SA2).

use std::time::Duration;

use saegis_tests::certificates::{Pki, TlsProfile};
use saegis_tests::{
    BOUND, CoapLight, CoapMessage, Credential, Gateway, LIGHT1, LIGHT2, Light, ListeningCoapAe,
    Mark, Request, Setup, Tool,
};
use serde_json::{Value, json};

const OWN: &str = "Clight-AE1";
const URI_PATH: u16 = 11;
const CONTENT_FORMAT: u16 = 12;
const BLOCK1: u16 = 27;
const METHOD_NOT_ALLOWED: u8 = 0x85;
const REQUEST_ID: u16 = 283;
const STATUS: u16 = 307;

fn registration(poa: &str) -> Value {
    json!({"m2m:ae": {"rn": "light1", "api": "Nlight", "rr": true, "poa": [poa], "srv": ["3"]}})
}

/// A light that is registered over HTTP with a point of access, and subscribes to its container.
fn with_subscription(poa: &str) -> (Gateway, Light) {
    let rules = "targets = [\"127.0.0.1\"]\ntimeout-seconds = 5";
    let gateway = Setup::new().with("notifications", rules).start();
    let mut light = Light::connect(gateway.port(), LIGHT1).unwrap();
    let told = json!({"m2m:sub": {"rn": "told", "nu": [OWN], "enc": {"net": [3]}}});
    for request in [
        Request::create("/cse", 2, &registration(poa)),
        Request::create_container("/cse/light1", "lamp"),
        Request::create("/cse/light1/lamp", 23, &told),
    ] {
        light.ask(&request.from(OWN)).unwrap().expect(201, 2001);
    }
    (gateway, light)
}

fn switch(light: &mut Light, value: &str) {
    let request = Request::create_instance("/cse/light1/lamp", value).from(OWN);
    light.ask(&request).unwrap().expect(201, 2001);
}

/// Reads a notification, and responds to it in the name of the AE or of another one.
fn respond(ae: &mut CoapLight, value: &str, from: Option<&str>) {
    let request = ae.receive(BOUND).unwrap().expect("a notification");
    assert_eq!((request.kind, request.code), (0, 2), "{request:?}");
    assert_eq!(request.value(URI_PATH), Some(&b"told"[..]));
    assert_eq!(request.json()["m2m:sgn"]["nev"]["rep"]["m2m:cin"]["con"], value);
    let id = request.value(REQUEST_ID).expect("it has an identifier");
    let response = CoapMessage { kind: 2, code: 0x44, ..request.clone() };
    let response = CoapMessage { options: Vec::new(), payload: Vec::new(), ..response };
    let response = response.option(STATUS, 2000u16.to_be_bytes()).option(REQUEST_ID, id);
    let response = from.into_iter().fold(response, |r, from| r.option(279, from));
    ae.send(&response.option(271, "3"));
}

#[test]
fn ae_at_coaps_address_is_notified() {
    let ae = ListeningCoapAe::with_key(LIGHT1);
    let (gateway, mut light) = with_subscription(&ae.url());
    switch(&mut light, "on");
    let mut ae = ae.accept(BOUND).unwrap();
    respond(&mut ae, "on", Some(OWN));
    let established = gateway.log().wait("ae.association-established");
    assert_eq!(established.text("protocol"), "DTLSv1.2");
    assert_eq!(established.text("suite"), "TLS_PSK_WITH_AES_128_CCM_8");
    // The association is used again.
    switch(&mut light, "off");
    respond(&mut ae, "off", None);
    // A response in the name of another is none.
    let mark = gateway.log().mark();
    switch(&mut light, "dim");
    respond(&mut ae, "dim", Some("Clight-AE2"));
    let failed = gateway.log().wait_after(mark, "notification.failed");
    assert!(failed.message().contains("Clight-AE2"), "{failed:?}");
}

/// A host that has the address of the AE and not its key receives nothing.
#[test]
fn other_host_at_coaps_address_receives_nothing() {
    let key = LIGHT2.key;
    let ae = ListeningCoapAe::with_key(Credential { key, ..LIGHT1 });
    let (gateway, mut light) = with_subscription(&ae.url());
    switch(&mut light, "on");
    assert!(ae.accept(Duration::from_secs(7)).is_err());
    let failed = gateway.log().wait("notification.failed");
    assert!(failed.message().contains("no association"), "{failed:?}");
    assert!(gateway.log().all(Mark::START, "ae.association-established", 0).is_empty());
}

/// The certificate at the address must have the identity of the association of the AE.
#[test]
fn ae_with_certificate_at_coaps_address_is_notified() {
    let pki = Pki::new();
    let identity = pki.identity(&pki.example.ae);
    let ae = ListeningCoapAe::with_certificate(&identity, &pki.anchor());
    let name = saegis_test_ca::Name::uri("//in.provider.com/mn-cse-123456/Clight-AE2");
    let request = saegis_test_ca::Request::new("light 2").name(name);
    let other = pki.identity(&pki.example.ae_authority.issue(&request).unwrap());
    let other = ListeningCoapAe::with_certificate(&other, &pki.anchor());
    let rules = "targets = [\"127.0.0.1\"]\ntimeout-seconds = 5";
    let gateway = pki.setup().with("notifications", rules).start();
    let mut light = pki.connect(Tool::OpenSsl, gateway.port(), &identity, TlsProfile::Tls13);
    let told = json!({"m2m:sub": {"rn": "told", "nu": [OWN], "enc": {"net": [3]}}});
    for request in [
        Request::create("/cse", 2, &registration(&ae.url())),
        Request::create_container("/cse/light1", "lamp"),
        Request::create("/cse/light1/lamp", 23, &told),
        Request::create_instance("/cse/light1/lamp", "on"),
    ] {
        light.ask(&request.from(OWN)).expect(201, 2001);
    }
    let mut ae = ae.accept(BOUND).unwrap();
    respond(&mut ae, "on", Some(OWN));
    let established = gateway.log().wait("ae.association-established");
    assert_eq!(established.text("suite"), "TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8");
    let moved = json!({"m2m:ae": {"poa": [other.url()]}});
    light.ask(&Request::update("/cse/light1", &moved).from(OWN)).expect(200, 2004);
    let mark = gateway.log().mark();
    light.ask(&Request::create_instance("/cse/light1/lamp", "off").from(OWN)).expect(201, 2001);
    assert!(other.accept(Duration::from_secs(7)).is_err());
    let failed = gateway.log().wait_after(mark, "notification.failed");
    assert!(failed.message().contains("no association"), "{failed:?}");
}

/// The gateway joins no blocks of an AE that it is a client of: it would refuse the whole request.
#[test]
fn client_association_keeps_no_blocks() {
    let ae = ListeningCoapAe::with_key(LIGHT1);
    let (_gateway, mut light) = with_subscription(&ae.url());
    switch(&mut light, "on");
    let mut ae = ae.accept(BOUND).unwrap();
    respond(&mut ae, "on", Some(OWN));
    let whole = CoapMessage::retrieve("cse", OWN);
    // The first block of 64 bytes, with more to follow.
    let payload = vec![b' '; 64];
    let block = CoapMessage { payload, ..CoapMessage::request(2, "cse", OWN, "b") };
    let block = block.option(CONTENT_FORMAT, [50]).option(BLOCK1, [0x0A]);
    for (request, id) in [(whole, &b"r"[..]), (block, b"b")] {
        let refused = ae.ask(&request).expect(METHOD_NOT_ALLOWED, 4005);
        assert_eq!(refused.value(REQUEST_ID), Some(id));
    }
}
