//! A home gateway (MN-CSE) and the IN-CSE that it registers with. Requests are forwarded between
//! them, and impersonation is refused on the way (TS-0003 clause 7.1.3 of the worked example).

mod announced_resources;
mod announcement;
mod coap;
mod forwarded_originators;
mod impersonation;
mod notifications;
mod pair;
mod registration;
mod transit;

use saegis_tests::{Client, Credential, Gateway, LIGHT1, Request, Tool};
use serde_json::json;

use pair::{LIGHT, MN, PHONE, Pair, Saef};

/// Registers the light at home with a lamp that the phone may read and write.
fn light_at(home: &Gateway) -> Client {
    let mut light = Tool::OpenSsl.connect(home.port(), LIGHT1);
    light.ask(&Request::create_ae("light1").from(LIGHT)).expect(201, 2001);
    let policy = json!({ "m2m:acp": {
        "rn": "phone",
        "pv": { "acr": [
            { "acor": [LIGHT], "acop": 63 },
            { "acor": ["/in-cse/Cphone"], "acop": 3 },
        ]},
        "pvs": { "acr": [{ "acor": [LIGHT], "acop": 63 }] },
    }});
    let created = light.ask(&Request::create("/cse/light1", 1, &policy).from(LIGHT));
    let ri = created.expect(201, 2001).json()["m2m:acp"]["ri"].as_str().unwrap().to_string();
    let lamp = json!({ "m2m:cnt": { "rn": "lamp", "acpi": [ri] } });
    light.ask(&Request::create("/cse/light1", 3, &lamp).from(LIGHT)).expect(201, 2001);
    light.ask(&Request::create_instance("/cse/light1/lamp", "on").from(LIGHT)).expect(201, 2001);
    light
}

fn phone_at(infrastructure: &Gateway) -> Client {
    let mut phone = Tool::GnuTls.connect(infrastructure.port(), PHONE);
    phone.ask(&Request::create_ae("phone").from("Cphone")).expect(201, 2001);
    phone
}

fn phone_reads_value_through_in_cse(saef: Saef) {
    let (infrastructure, home) = Pair::new(saef).start();
    let mut light = light_at(&home);
    let mut phone = phone_at(&infrastructure);
    let latest = format!("/~/{MN}/cse/light1/lamp/la");
    let read = phone.ask(&Request::retrieve(&latest).from("Cphone")).expect(200, 2000);
    assert_eq!(read.json()["m2m:cin"]["con"], "on");
    // The phone switches the lamp, and the light sees the change.
    let switch = Request::create_instance(&format!("/~/{MN}/cse/light1/lamp"), "off");
    phone.ask(&switch.from("Cphone")).expect(201, 2001);
    let seen = light.ask(&Request::retrieve("/cse/light1/lamp/la").from(LIGHT)).expect(200, 2000);
    assert_eq!(seen.json()["m2m:cin"]["con"], "off");
    // The absolute address names the same resource.
    let absolute = format!("/_/in.provider.com/{MN}/cse/light1/lamp/la");
    phone.ask(&Request::retrieve(&absolute).from("Cphone")).expect(200, 2000);
    // Access control applies to forwarded requests as well.
    let container = Request::create_container(&format!("/~/{MN}/cse/light1"), "mine");
    phone.ask(&container.from("Cphone")).expect_refusal(403, 4103);
    phone.ask(&Request::retrieve(&format!("/~/{MN}/cse/nothing")).from("Cphone")).expect(404, 4004);
    // In the other direction, the IN-CSE sees the light's SP-relative AE-ID.
    let base = light.ask(&Request::retrieve("/~/in-cse/cse").from(LIGHT));
    base.expect_refusal(403, 4103);
    let saef = if saef == Saef::Psk { "psk" } else { "certificate" };
    let association = infrastructure.log().wait("association.established");
    assert_eq!(association.text("saef"), saef);
    assert_eq!(association.text("entity"), format!("CSE /{MN}"));
}

fn impersonation_across_cses_is_refused(saef: Saef) {
    let (infrastructure, home) = Pair::new(saef).start();
    let _light = light_at(&home);
    let mut phone = phone_at(&infrastructure);
    let latest = format!("/~/{MN}/cse/light1/lamp/la");
    // At the first hop.
    for from in [LIGHT, "Cother", "CAdmin"] {
        phone.ask(&Request::retrieve(&latest).from(from)).expect_refusal(403, 4106);
    }
    for from in ["/in-cse/Cphone", &format!("/{MN}/{LIGHT}"), &format!("/{MN}"), "/in-cse"] {
        phone.ask(&Request::retrieve(&latest).from(from)).expect_refusal(400, 4000);
    }
    // An AE can register only at its registrar CSE.
    let elsewhere = Request::create(
        "/~/mn-cse-123456/cse",
        2,
        &json!({ "m2m:ae": {
            "rn": "phone2", "api": "Nphone", "rr": false, "srv": ["3"],
        }}),
    );
    phone.ask(&elsewhere.from("Cphone")).expect_refusal(405, 4005);
    phone.ask(&Request::retrieve("/~/nobody/cse").from("Cphone")).expect_refusal(404, 5103);
    phone.ask(&Request::retrieve("/_/other.org/x/cse").from("Cphone")).expect_refusal(404, 5103);
    drop(home);
}

/// The IN-CSE cannot use originators of AEs at home.
#[test]
fn registrar_cse_cannot_impersonate_home_aes() {
    let pair = Pair::new(Saef::Psk);
    let infrastructure = pair.infrastructure.start();
    let home = pair.home.start();
    home.log().wait("peer.registered");
    let _light = light_at(&home);
    let credential =
        Credential { identity: "in@in.provider.com", key: "ff0e0d0c0b0a09080706050403020100" };
    let mut peer = Tool::OpenSsl.connect(home.port(), credential);
    let latest = Request::retrieve("/cse/light1/lamp/la");
    for from in [&format!("/{MN}/{LIGHT}"), &format!("/{MN}"), LIGHT, "C", "S"] {
        peer.ask(&latest.clone().from(from)).expect_refusal(403, 4106);
    }
    // It forwards requests of other entities, which are distinguished by their originators.
    peer.ask(&latest.clone().from("/in-cse/Cphone")).expect(200, 2000);
    peer.ask(&latest.clone().from("/mn-2/Cphone")).expect_refusal(403, 4103);
    peer.ask(&latest.from("/in-cse")).expect_refusal(403, 4103);
    drop(infrastructure);
}

mod psk {
    #[test]
    fn phone_reads_value_through_in_cse() {
        super::phone_reads_value_through_in_cse(super::Saef::Psk);
    }
    #[test]
    fn impersonation_across_cses_is_refused() {
        super::impersonation_across_cses_is_refused(super::Saef::Psk);
    }
}

mod certificates {
    #[test]
    fn phone_reads_value_through_in_cse() {
        super::phone_reads_value_through_in_cse(super::Saef::Certificates);
    }
    #[test]
    fn impersonation_across_cses_is_refused() {
        super::impersonation_across_cses_is_refused(super::Saef::Certificates);
    }
}
