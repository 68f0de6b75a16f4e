//! Keys from a MAF (TS-0003 clause 7.1.4 of the worked example). The smartphone's AE and the IN-CSE
//! share no key; the MAF distributes one to both.

mod audit;
mod clients;
mod enrolled;
mod key_cache;
mod key_registration;
mod load;
mod refusals;
mod scene;
mod several_mafs;
mod store;
mod weak_keys;

use std::fs;

use saegis_tests::{Credential, Light, Mqtt, Offer, Request, Tool, eventually, mqtt};
use serde_json::json;

use scene::{FQDN, PHONE, Scene, Settings};

#[test]
fn phone_and_in_cse_get_shared_key() {
    let scene = Scene::start();
    let registered = scene.phone(&["register"]).expect(0);
    assert!(registered.out.contains("registered as Cphone"), "{}", registered.out);
    let association = scene.infrastructure.log().wait("association.established");
    assert_eq!(association.text("saef"), "maf");
    assert_eq!(association.text("entity"), "AE Cphone");
    let credential = association.text("credential_id");
    assert!(
        credential.starts_with("12-") && credential.ends_with(&format!("@{FQDN}")),
        "{credential}"
    );
    // The key is reused by the next command, and no other key is requested.
    let mark = scene.maf.log().mark();
    scene.phone(&["create", "container", "lamp"]).expect(0);
    scene.phone(&["send", "lamp", "on"]).expect(0);
    assert!(scene.phone(&["latest", "lamp"]).expect(0).out.ends_with("on\n"));
    assert!(scene.maf.log().all(mark, "association.established", 0).is_empty());
}

/// The distributed key works with the clients of OpenSSL and GnuTLS.
#[test]
fn openssl_and_gnutls_accept_distributed_key() {
    let scene = Scene::start();
    scene.phone(&["register"]).expect(0);
    let (identity, key) = scene.phone_key();
    for tool in [Tool::OpenSsl, Tool::GnuTls] {
        let credential = Credential { identity: &identity, key: &key };
        let mut phone = tool.connect(scene.infrastructure.port(), credential);
        phone.ask(&Request::retrieve("/cse/phone").from("Cphone")).expect(200, 2000);
        for from in ["Cother", "C", "Clight-AE1"] {
            phone.ask(&Request::retrieve("/cse/phone").from(from)).expect_refusal(403, 4106);
        }
        phone
            .ask(&Request::retrieve("/cse/phone").from("/in-cse/Cphone"))
            .expect_refusal(400, 4000);
    }
    let wrong = Credential { identity: &identity, key: &"00".repeat(32) };
    assert!(
        Tool::OpenSsl.try_connect(scene.infrastructure.port(), wrong, Offer::MANDATED).is_err()
    );
}

/// The distributed key authenticates a client of the MQTT server, for its own topics only.
#[test]
fn mqtt_server_accepts_distributed_key() {
    let mut settings = Settings::new();
    settings.infrastructure = settings.infrastructure.with_mqtt();
    let scene = settings.start();
    scene.phone(&["register"]).expect(0);
    let (identity, key) = scene.phone_key();
    let port = scene.infrastructure.mqtt_port();
    let credential = Credential { identity: &identity, key: &key };
    let mut phone = Mqtt::connect(port, credential, "A::Cphone");
    assert_eq!(phone.subscribe("/oneM2M/resp/Cphone/#"), 1);
    assert_eq!(phone.subscribe("/oneM2M/resp/Cother/#"), 0x80);
    let own = "/oneM2M/req/Cphone/in-cse/json";
    phone.expect(own, json!({"op": 2, "to": "cse/phone", "fr": "Cphone"}), 2000);
    phone.expect(own, json!({"op": 2, "to": "cse/phone", "fr": "Cother"}), 4106);
    let mut other = Mqtt::raw(port, credential);
    other.send(&mqtt::connect("A::Cother", 2, 60));
    assert_eq!(other.read(), Some((0x20, vec![0, 2])));
    let wrong = Credential { key: &"00".repeat(32), ..credential };
    assert!(Light::connect(port, wrong).is_err());
}

/// A registered key survives a kill of the MAF. Its store contains neither keys nor names in plain
/// text.
#[test]
fn registered_key_survives_kill_of_maf() {
    let scene = Scene::start();
    scene.phone(&["register"]).expect(0);
    let (identity, key) = scene.phone_key();
    let scene = scene.with_killed_maf();
    let bytes = fs::read(scene.maf.path("state/maf.redb")).unwrap();
    let has = |what: &[u8]| bytes.windows(what.len()).any(|w| w == what);
    let raw: Vec<u8> = (0..key.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&key[at..at + 2], 16).unwrap())
        .collect();
    let relative = identity.split('@').next().unwrap();
    for (what, text) in [
        ("the key", &raw[..]),
        ("its digits", key.as_bytes()),
        ("its name", relative.as_bytes()),
        ("its source", b"Cphone"),
    ] {
        assert!(!has(text), "the store shows {what}");
    }
    // A gateway without a cached key can retrieve it.
    let scene = scene.with_new_infrastructure();
    let credential = Credential { identity: &identity, key: &key };
    let mut phone = Tool::OpenSsl.connect(scene.infrastructure.port(), credential);
    phone.ask(&Request::retrieve("/cse/phone").from("Cphone")).expect(200, 2000);
}

/// Without the MAF, cached keys still work and others are refused. No restart is needed afterwards.
#[test]
fn unreachable_maf_does_not_affect_cached_keys() {
    let scene = Scene::start();
    scene.phone(&["register"]).expect(0);
    let (identity, key) = scene.phone_key();
    let credential = Credential { identity: &identity, key: &key };
    scene.maf.signal("STOP");
    let mut phone = Tool::OpenSsl.connect(scene.infrastructure.port(), credential);
    phone.ask(&Request::retrieve("/cse/phone").from("Cphone")).expect(200, 2000);
    let scene = scene.with_new_infrastructure();
    let mark = scene.infrastructure.log().mark();
    assert!(
        Tool::OpenSsl
            .try_connect(scene.infrastructure.port(), credential, Offer::MANDATED)
            .is_err()
    );
    let refused = scene.infrastructure.handshake_refused(mark);
    assert!(refused.message().contains("cannot be reached"), "{refused:?}");
    scene.maf.signal("CONT");
    let port = scene.infrastructure.port();
    eventually(|| Tool::OpenSsl.try_connect(port, credential, Offer::MANDATED));
}

#[test]
fn maf_clients_authenticate_by_certificate() {
    let scene = Scene::with_certificates();
    scene.phone(&["register"]).expect(0);
    let at_maf = scene.maf.log().wait("association.established");
    assert_eq!(at_maf.text("saef"), "certificate");
    assert_eq!(at_maf.text("entity"), format!("MAF client {PHONE}"));
    let association = scene.infrastructure.log().wait("association.established");
    assert_eq!(
        (association.text("saef"), association.text("entity")),
        ("maf".into(), "AE Cphone".into())
    );
    assert!(association.text("credential_id").ends_with(FQDN));
}

/// The domain name of a CSE that registers with the IN-CSE contains the label of the IN-CSE.
#[test]
fn maf_accepts_certificate_of_mn_cse() {
    let mut settings = Settings::with_certificates();
    let example = settings.certificates.take().unwrap();
    settings.maf.write("mn.pem", example.mn_cse.chain_pem().as_bytes());
    settings.maf.write("mn.key", example.mn_cse.key_pem().as_bytes());
    let maf = settings.maf.start();
    let (certificate, key) = (maf.path("mn.pem"), maf.path("mn.key"));
    let files = ["-cert", certificate.to_str().unwrap(), "-key", key.to_str().unwrap()];
    let connected = Tool::OpenSsl.try_with(maf.port(), None, &files);
    let established = maf.log().wait("association.established");
    assert_eq!(established.text("entity"), "MAF client //in.provider.com/mn-cse-123456");
    drop(connected);
}

/// The specification allows two readings, and both sides are configured with the same one.
#[test]
fn kc_is_first_half_where_configured() {
    let mut settings = scene::Settings::new();
    settings.more = "key = \"first-half\"\ncredential-id = \"source\"\n".into();
    let scene = settings.start();
    let (id, km) = scene::PHONE_KM;
    let credential = format!("kpsa-id = \"{id}\"\nkpsa = \"{km}\"\n");
    // A client that uses the whole key is refused.
    assert_eq!(scene.phone(&["register"]).code, 3);
    scene.write_phone(&credential, scene::IN_CSE, "key = \"first-half\"");
    scene.phone(&["register"]).expect(0);
    let association = scene.infrastructure.log().wait("association.established");
    assert_eq!(association.text("credential_id"), format!("11-{PHONE}"));
    let (identity, key) = scene.phone_key();
    let half = Credential { identity: &identity, key: &key[..key.len() / 2] };
    let mut phone = Tool::OpenSsl.connect(scene.infrastructure.port(), half);
    phone.ask(&Request::retrieve("/cse/phone").from("Cphone")).expect(200, 2000);
    let whole = Credential { key: &key, ..half };
    assert_eq!(Tool::OpenSsl.refused(scene.infrastructure.port(), whole).alert, Some(20));
}
