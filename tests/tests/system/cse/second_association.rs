//! Notifications over a second association, in which the gateway is the client. The gateway
//! authenticates the AE by its credential, and discards responses with another originator.

use saegis_tests::certificates::{Pki, TlsProfile};
use saegis_tests::{
    Client, Credential, Gateway, LIGHT1, LIGHT2, ListeningAe, Mark, Message, Request, Response,
    Setup, Tool,
};
use serde_json::{Value, json};

const OWN: &str = "Clight-AE1";
const OTHER: &str = "Clight-AE2";
const LAMP: &str = "/cse/light1/lamp";

fn content(request: &Message) -> Value {
    serde_json::from_slice(&request.body).unwrap()
}

fn allowed() -> Setup {
    Setup::new()
        .with("notifications", "targets = [\"127.0.0.1\"]")
        .with("notifications", "timeout-seconds = 3")
}

fn notification(path: &str, content: &str) -> Request {
    Request::new("POST", path).header("Content-Type", "application/json").body(content)
}

/// Registers light 1 with a point of access, and subscribes it to its own lamp.
fn register(light: &mut Client, poa: &str) {
    let ae = json!({"m2m:ae": {"rn": "light1", "api": "Nlight", "rr": true, "poa": [poa], "srv": ["3"]}});
    light.ask(&Request::create("/cse", 2, &ae).from(OWN)).expect(201, 2001);
    light.ask(&Request::create_container("/cse/light1", "lamp").from(OWN)).expect(201, 2001);
    let notified = json!({"m2m:sub": {"rn": "told", "nu": [OWN], "enc": {"net": [3]}}});
    light.ask(&Request::create(LAMP, 23, &notified).from(OWN)).expect(201, 2001);
}

fn switch(light: &mut Client, value: &str) {
    light.ask(&Request::create_instance(LAMP, value).from(OWN)).expect(201, 2001);
}

fn with_key(setup: Setup, poa: &str) -> (Gateway, Client) {
    let gateway = setup.start();
    let mut light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    register(&mut light, poa);
    (gateway, light)
}

/// Asserts that a notification fails for this reason.
#[track_caller]
fn assert_not_notified(gateway: &Gateway, mark: Mark, why: &str) {
    let failed = gateway.log().wait_after(mark, "notification.failed").message();
    assert!(failed.contains(why), "{failed}");
}

#[test]
fn ae_is_notified_over_psk_association() {
    let mut ae = ListeningAe::with_key(LIGHT1);
    let (gateway, mut light) = with_key(allowed(), &ae.url());
    for value in ["on", "off"] {
        switch(&mut light, value);
        let notified = ae.request();
        assert_eq!(notified.line, "POST /told HTTP/1.1");
        assert_eq!(notified.values("x-m2m-origin"), ["/mn-cse-123456"]);
        assert_eq!(content(&notified)["m2m:sgn"]["nev"]["rep"]["m2m:cin"]["con"], value);
        ae.answer(&notified, 2000, "X-M2M-Origin: Clight-AE1\r\n");
    }
    // The association is reused.
    assert_eq!(ae.associations(), 1);
    let event = gateway.log().wait("ae.association-established");
    assert_eq!(event.text("credential"), "12-AE123456789012-Light@in.provider.com");
    assert_eq!(event.text("suite"), "TLS_PSK_WITH_AES_128_CBC_SHA256");
}

#[test]
fn ae_is_notified_over_certificate_association() {
    let pki = Pki::new();
    let identity = pki.identity(&pki.example.ae);
    let mut ae = ListeningAe::with_certificate(&identity, &pki.anchor());
    let setup = pki.setup().with("notifications", "targets = [\"127.0.0.1\"]");
    let gateway = setup.start();
    let mut light = pki.connect(Tool::OpenSsl, gateway.port(), &identity, TlsProfile::Tls13);
    register(&mut light, &ae.url());
    switch(&mut light, "on");
    let notified = ae.request();
    assert_eq!(content(&notified)["m2m:sgn"]["nev"]["rep"]["m2m:cin"]["con"], "on");
    ae.answer(&notified, 2000, "");
    // A server at the registered address with a valid certificate of another AE.
    let name = saegis_test_ca::Name::uri("//in.provider.com/mn-cse-123456/Clight-AE2");
    let request = saegis_test_ca::Request::new("light 2").name(name);
    let other = pki.example.ae_authority.issue(&request);
    let other = ListeningAe::with_certificate(&pki.identity(&other.unwrap()), &pki.anchor());
    let moved = json!({"m2m:ae": {"poa": [other.url()]}});
    light.ask(&Request::update("/cse/light1", &moved).from(OWN)).expect(200, 2004);
    let mark = gateway.log().mark();
    switch(&mut light, "off");
    assert_not_notified(&gateway, mark, "no association with the holder of 33-");
    assert!(!other.has_received_request(), "{}", other.said());
}

/// A server at the AE's address without its key receives no notification.
#[test]
fn server_without_ae_credential_is_not_notified() {
    let wrong = Credential { key: "00112233445566778899aabbccddeeff", ..LIGHT1 };
    for impostor in [ListeningAe::with_key(wrong), ListeningAe::with_key(LIGHT2)] {
        let (gateway, mut light) = with_key(allowed(), &impostor.url());
        let mark = gateway.log().mark();
        switch(&mut light, "on");
        assert_not_notified(&gateway, mark, "no association with the holder of 12-AE123456789012");
        assert!(!impostor.has_received_request(), "{}", impostor.said());
    }
}

#[test]
fn ae_address_without_rule_is_not_contacted() {
    let ae = ListeningAe::with_key(LIGHT1);
    let setup = Setup::new().with("notifications", "targets = [\"127.0.0.1:1\"]");
    let (gateway, mut light) = with_key(setup, &ae.url());
    let mark = gateway.log().mark();
    switch(&mut light, "on");
    assert_not_notified(&gateway, mark, "no rule allows the address");
    assert_eq!(ae.associations(), 0);
}

/// A response with another originator is discarded.
#[test]
fn response_of_other_originator_is_discarded() {
    let mut ae = ListeningAe::with_key(LIGHT1);
    let (gateway, mut light) = with_key(allowed(), &ae.url());
    for (from, own) in [
        ("Clight-AE1", true),
        ("/mn-cse-123456/Clight-AE1", true),
        ("//in.provider.com/mn-cse-123456/Clight-AE1", true),
        ("Clight-AE2", false),
        ("/mn-cse-123456", false),
        ("/other/Clight-AE1", false),
        ("//other.com/mn-cse-123456/Clight-AE1", false),
        ("C", false),
        ("?", false),
    ] {
        let mark = gateway.log().mark();
        // Light 1 notifies itself, so it receives the response.
        let notify = notification("/Clight-AE1", "{\"m2m:sgn\":{}}").from(OWN);
        light.send(&notify.bytes());
        let notified = ae.request();
        ae.answer(&notified, 2000, &format!("X-M2M-Origin: {from}\r\n"));
        let answer = light.read();
        if own {
            answer.expect(200, 2000);
        } else {
            answer.expect_refusal(404, 5103);
            assert_not_notified(&gateway, mark, "the From of the response is");
        }
    }
}

/// A revoked credential is not used for notifications, even on an existing association.
#[test]
fn revoked_credential_is_not_used_for_notifications() {
    let mut ae = ListeningAe::with_key(LIGHT1);
    let (gateway, mut light) = with_key(allowed(), &ae.url());
    switch(&mut light, "on");
    let notified = ae.request();
    ae.answer(&notified, 2000, "");
    // Light 2 may write to the lamp as well.
    let mut other = Tool::OpenSsl.connect(gateway.port(), LIGHT2);
    other.ask(&Request::create_ae("light2").from(OTHER)).expect(201, 2001);
    let policy = json!({"m2m:acp": {
        "rn": "both",
        "pv": {"acr": [{"acor": [OWN, OTHER], "acop": 63}]},
        "pvs": {"acr": [{"acor": [OWN], "acop": 63}]},
    }});
    light.ask(&Request::create("/cse/light1", 1, &policy).from(OWN)).expect(201, 2001);
    let both = json!({"m2m:cnt": {"acpi": ["cse/light1/both"]}});
    light.ask(&Request::update(LAMP, &both).from(OWN)).expect(200, 2004);
    gateway.in_force_after(|gateway| {
        let table = gateway.table();
        let rest = table.lines().filter(|line| !line.contains("AE123456789012"));
        let rest = rest.map(|line| format!("{line}\n")).collect::<String>();
        gateway.replace("policies/psk-lookup-table.csv", rest);
    });
    let mark = gateway.log().mark();
    other.ask(&Request::create_instance(LAMP, "off").from(OTHER)).expect(201, 2001);
    assert_not_notified(&gateway, mark, "its credential no longer holds");
    assert!(!ae.said().contains("\"off\""), "{}", ae.said());
}

/// After a restart, the gateway contacts an AE only after the AE has connected.
#[test]
fn ae_is_contacted_after_its_first_association() {
    let mut ae = ListeningAe::with_key(LIGHT1);
    let (gateway, light) = with_key(allowed(), &ae.url());
    light.close();
    let gateway = gateway.restart();
    let mut other = Tool::OpenSsl.connect(gateway.port(), LIGHT2);
    other.ask(&Request::create_ae("light2").from(OTHER)).expect(201, 2001);
    let ask = json!({"m2m:sub": {"rn": "told", "nu": [OWN]}});
    let ask = Request::create("/cse/light2", 23, &ask).from(OTHER);
    let mark = gateway.log().mark();
    other.ask(&ask).expect_refusal(500, 5204);
    assert_not_notified(&gateway, mark, "the AE has not connected since the gateway started");
    let mut light = Tool::OpenSsl.connect(gateway.port(), LIGHT1);
    gateway.log().wait_after(mark, "association.established");
    // A response proves that the gateway knows the association, which is logged slightly earlier.
    light.assert_served_as(OWN);
    other.send(&ask.bytes());
    let asked = ae.request();
    assert_eq!(content(&asked)["m2m:sgn"]["vrq"], true);
    ae.answer(&asked, 2000, "");
    other.read().expect(201, 2001);
}

/// A notification from another AE is forwarded if access control allows it.
#[test]
fn notification_between_aes_respects_access_control() {
    let mut ae = ListeningAe::with_key(LIGHT1);
    let (gateway, mut light) = with_key(allowed(), &ae.url());
    let mut other = Tool::OpenSsl.connect(gateway.port(), LIGHT2);
    other.ask(&Request::create_ae("light2").from(OTHER)).expect(201, 2001);
    let notify = notification("/cse/light1", "{\"m2m:sgn\":{\"x\":1}}").from(OTHER);
    other.ask(&notify).expect_refusal(403, 4103);
    let policy = json!({"m2m:acp": {
        "rn": "door",
        "pv": {"acr": [{"acor": [OWN], "acop": 63}, {"acor": [OTHER], "acop": 16}]},
        "pvs": {"acr": [{"acor": [OWN], "acop": 63}]},
    }});
    light.ask(&Request::create("/cse/light1", 1, &policy).from(OWN)).expect(201, 2001);
    let open = json!({"m2m:ae": {"acpi": ["cse/light1/door"]}});
    light.ask(&Request::update("/cse/light1", &open).from(OWN)).expect(200, 2004);
    other.send(&notify.bytes());
    let notified = ae.request();
    assert_eq!(notified.values("x-m2m-origin"), [OTHER]);
    assert_eq!(content(&notified), json!({"m2m:sgn": {"x": 1}}));
    ae.answer(&notified, 2000, "");
    let answer: Response = other.read();
    assert_eq!(answer.header("x-m2m-ri"), Some(notify.id()));
    answer.expect(200, 2000);
    // The originator cannot be forged.
    let forged = notification("/cse/light1", "{\"m2m:sgn\":{}}").from(OWN);
    other.ask(&forged).expect_refusal(403, 4106);
}

/// After policy has assigned an AE-ID to another credential, its former holder receives no
/// notifications, even before the new holder has connected.
#[test]
fn former_holder_of_ae_id_is_not_notified() {
    const NEW: Credential<'static> =
        Credential { identity: "new@in.provider.com", key: "5f0e0d0c0b0a09080706050403020100" };
    let mut ae = ListeningAe::with_key(NEW);
    let rows = |own: &str| {
        let lights = format!("{OTHER},{},{}\n", LIGHT2.key, LIGHT2.identity);
        format!("ae_id,kpsa,kpsa_id\n{lights},{},{}\n{own}", NEW.key, NEW.identity)
    };
    let gateway = allowed().file("psk-lookup-table.csv", &rows("")).start();
    let mut new = Tool::OpenSsl.connect(gateway.port(), NEW);
    let content = json!({"m2m:ae": {
        "rn": "new", "api": "Nlight", "rr": true, "poa": [ae.url()], "srv": ["3"],
    }});
    new.ask(&Request::create("/cse", 2, &content).from("Cnew")).expect(201, 2001);
    let mut other = Tool::OpenSsl.connect(gateway.port(), LIGHT2);
    other.ask(&Request::create_ae("light2").from(OTHER)).expect(201, 2001);
    let ask = |name: &str| {
        let notified = json!({"m2m:sub": {"rn": name, "nu": ["Cnew"]}});
        Request::create("/cse/light2", 23, &notified).from(OTHER)
    };
    // The current holder is notified.
    other.send(&ask("first").bytes());
    let asked = ae.request();
    ae.answer(&asked, 2000, "");
    other.read().expect(201, 2001);
    let row = "Cnew,00112233445566778899aabbccddeeff,heir@in.provider.com\n";
    gateway.in_force_after(|g| g.replace("policies/psk-lookup-table.csv", rows(row)));
    new.ended();
    let mark = gateway.log().mark();
    other.ask(&ask("second")).expect_refusal(500, 5204);
    assert_not_notified(&gateway, mark, "the AE has not connected since the gateway started");
    assert_eq!(ae.said().matches("POST ").count(), 1, "{}", ae.said());
}
