//! Notifications for AEs at another CSE, subject to access control, and requests for S-type AE-IDs,
//! which name no CSE.

use saegis_tests::{Client, Gateway, LIGHT1, ListeningAe, Message, Request, Tool};
use serde_json::{Value, json};

use super::announcement::{NEW, pair, rules};
use super::pair::{LIGHT, MN, Pair, Saef};
use super::phone_at;

fn content(request: &Message) -> Value {
    serde_json::from_slice(&request.body).unwrap()
}

/// Starts two CSEs. The home gateway may contact AEs on this machine.
fn start(saef: Saef) -> (Gateway, Gateway) {
    let mut pair = Pair::new(saef);
    pair.home = pair.home.with("notifications", "targets = [\"127.0.0.1\"]");
    pair.start()
}

/// Registers the light at home with a point of access and permission for these originators to
/// notify it.
fn light_at(home: &Gateway, poa: &str, notifiers: &[&str]) -> Client {
    let mut light = Tool::OpenSsl.connect(home.port(), LIGHT1);
    let ae = json!({"m2m:ae": {
        "rn": "light1", "api": "Nlight", "rr": true, "poa": [poa], "srv": ["3"],
    }});
    light.ask(&Request::create("/cse", 2, &ae).from(LIGHT)).expect(201, 2001);
    let policy = json!({"m2m:acp": {
        "rn": "door",
        "pv": {"acr": [{"acor": [LIGHT], "acop": 63}, {"acor": notifiers, "acop": 16}]},
        "pvs": {"acr": [{"acor": [LIGHT], "acop": 63}]},
    }});
    light.ask(&Request::create("/cse/light1", 1, &policy).from(LIGHT)).expect(201, 2001);
    let open = json!({"m2m:ae": {"acpi": ["cse/light1/door"]}});
    light.ask(&Request::update("/cse/light1", &open).from(LIGHT)).expect(200, 2004);
    light
}

/// Returns the phone's subscription at the IN-CSE for the light at home.
fn subscription() -> Request {
    let target = format!("/{MN}/{LIGHT}");
    let notified =
        json!({"m2m:sub": {"rn": "told", "nu": [target], "cr": null, "enc": {"net": [3]}}});
    Request::create("/cse/phone/scene", 23, &notified).from("Cphone")
}

fn assert_light_is_notified_through_its_cse(saef: Saef) {
    let mut ae = ListeningAe::with_key(LIGHT1);
    let (infrastructure, home) = start(saef);
    let _light = light_at(&home, &ae.url(), &["/in-cse"]);
    let mut phone = phone_at(&infrastructure);
    phone.ask(&Request::create_container("/cse/phone", "scene").from("Cphone")).expect(201, 2001);
    phone.send(&subscription().bytes());
    let asked = ae.request();
    assert_eq!(content(&asked)["m2m:sgn"]["vrq"], true);
    assert_eq!(asked.values("x-m2m-origin"), ["/in-cse"]);
    ae.answer(&asked, 2000, "");
    phone.read().expect(201, 2001);
    let evening = Request::create_instance("/cse/phone/scene", "evening").from("Cphone");
    phone.ask(&evening).expect(201, 2001);
    let notified = ae.request();
    let sgn = &content(&notified)["m2m:sgn"];
    assert_eq!(sgn["nev"]["rep"]["m2m:cin"]["con"], "evening");
    assert_eq!(sgn["cr"], "/in-cse/Cphone");
    assert!(sgn["sur"].as_str().unwrap().starts_with("/in-cse/"), "{sgn}");
    ae.answer(&notified, 2000, "");
}

#[test]
fn light_is_notified_through_its_cse_by_keys() {
    assert_light_is_notified_through_its_cse(Saef::Psk);
}

#[test]
fn light_is_notified_through_its_cse_by_certificates() {
    assert_light_is_notified_through_its_cse(Saef::Certificates);
}

/// A notification without permission is not forwarded, whatever CSE it comes from.
#[test]
fn notification_without_permission_is_not_forwarded() {
    let ae = ListeningAe::with_key(LIGHT1);
    let (infrastructure, home) = start(Saef::Psk);
    let _light = light_at(&home, &ae.url(), &["/other-cse"]);
    let mut phone = phone_at(&infrastructure);
    phone.ask(&Request::create_container("/cse/phone", "scene").from("Cphone")).expect(201, 2001);
    phone.ask(&subscription()).expect_refusal(500, 5204);
    // The same holds for a notification of the phone, which the IN-CSE forwards.
    let notify = Request::new("POST", &format!("/~/{MN}/{LIGHT}"))
        .header("Content-Type", "application/json")
        .body("{\"m2m:sgn\":{}}");
    phone.ask(&notify.clone().from("Cphone")).expect_refusal(403, 4103);
    phone.ask(&notify.from("/in-cse")).expect_refusal(400, 4000);
    assert!(!ae.has_received_request(), "{}", ae.said());
}

/// `/S…` names no CSE. The IN-CSE finds the AE by its announcement.
#[test]
fn s_type_ae_id_is_resolved_by_announcement() {
    let (infrastructure, home) = pair(&rules("Nlight*", "S*")).start();
    let mut light = Tool::OpenSsl.connect(home.port(), NEW);
    let ae = json!({"m2m:ae": {"rn": "light", "api": "Nlight", "rr": false, "srv": ["3"]}});
    light.ask(&Request::create("/cse", 2, &ae).from("Slight")).expect(201, 2001);
    let policy = json!({"m2m:acp": {
        "rn": "phone",
        "pv": {"acr": [{"acor": ["/in-cse/Cphone"], "acop": 2}]},
        "pvs": {"acr": [{"acor": ["Slight"], "acop": 63}]},
    }});
    light.ask(&Request::create("/cse/light", 1, &policy).from("Slight")).expect(201, 2001);
    let open = json!({"m2m:ae": {"acpi": ["cse/light/phone"]}});
    light.ask(&Request::update("/cse/light", &open).from("Slight")).expect(200, 2004);
    let mut phone = phone_at(&infrastructure);
    let read = phone.ask(&Request::retrieve("/~/Slight").from("Cphone")).expect(200, 2000);
    assert_eq!(read.json()["m2m:ae"]["rn"], "light");
    phone.ask(&Request::retrieve("/~/Snobody").from("Cphone")).expect_refusal(404, 5103);
    let delete = Request::delete("/~/Slight").from("Cphone");
    phone.ask(&delete).expect_refusal(403, 4103);
    phone.ask(&Request::retrieve("/~/Slight").from("Slight")).expect_refusal(403, 4106);
    // At the home gateway, the AE-ID is local.
    let own = light.ask(&Request::retrieve("/~/Slight").from("Slight"));
    assert_eq!(own.expect(403, 4103).status(), 403, "its policy allows only the phone to read");
}
