//! `saegis ae enroll` and `renew`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, SystemTime};

use saegis_test_ca::{Name, Request as CaRequest, Validity};

use super::scene::{LIGHT, OTHER, OTHER_KPM, Scene, kpm, light};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A light with only a key enrolls, registers with the gateway, and renews its certificate.
#[test]
fn light_enrolls_registers_and_renews() {
    let scene = Scene::start();
    let gateway = scene.pki.setup().start();
    scene.write_light(&gateway, &kpm());
    let enrolled = light(&gateway, &["enroll"]).expect(0);
    assert!(enrolled.out.starts_with("enrolled: light.pem, valid until "), "{enrolled:?}");
    let file = gateway.path("light.pem");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    light(&gateway, &["register"]).expect(0);
    let established = gateway.log().wait("association.established");
    assert_eq!(established.text("credential_id"), format!("33-{LIGHT}"));
    let first = fs::read(&file).unwrap();
    let early = light(&gateway, &["renew"]).expect(0);
    assert!(early.out.starts_with("not due yet: light.pem"), "{early:?}");
    assert_eq!(fs::read(&file).unwrap(), first);
    let mark = scene.mef.log().mark();
    let renewed = light(&gateway, &["--json", "renew", "--force"]).expect(0).json();
    assert_eq!(renewed["result"], "renewed");
    let issued = scene.mef.log().wait_after(mark, "certificate.issued");
    assert_eq!(issued.text("operation"), "simplereenroll");
    assert_eq!(issued.text("credential_id"), format!("33-{LIGHT}"));
    assert_ne!(fs::read(&file).unwrap(), first);
    light(&gateway, &["create", "container", "lamp"]).expect(0);
}

/// Other verbs enroll a light without a certificate, and renew a certificate that is due. A renewal
/// that fails does not stop them.
#[test]
fn certificate_is_renewed_before_it_expires() {
    let scene = Scene::start();
    let gateway = scene.pki.setup().start();
    scene.write_light(&gateway, &kpm());
    light(&gateway, &["register"]).expect(0);
    let enrolled = scene.mef.log().wait("certificate.issued");
    assert_eq!(enrolled.text("operation"), "simpleenroll");
    let now = SystemTime::now();
    let due = Validity { from: now - 80 * DAY, until: now + 10 * DAY };
    let due = CaRequest::new("light").name(Name::uri(LIGHT)).valid(due);
    let due = scene.pki.example.ae_authority.issue(&due).unwrap();
    let due = due.key_pem() + due.chain_pem();
    gateway.write("light.pem", &due);
    let mark = scene.mef.log().mark();
    light(&gateway, &["show"]).expect(0);
    let renewed = scene.mef.log().wait_after(mark, "certificate.issued");
    assert_eq!(renewed.text("operation"), "simplereenroll");
    assert_ne!(fs::read_to_string(gateway.path("light.pem")).unwrap(), due);
    // Without the MEF.
    gateway.write("light.pem", &due);
    let Scene { mef, .. } = scene;
    drop(mef);
    let shown = light(&gateway, &["show"]).expect(0);
    assert!(shown.err.contains("was not renewed"), "{shown:?}");
    assert_eq!(fs::read_to_string(gateway.path("light.pem")).unwrap(), due);
    assert_eq!(light(&gateway, &["renew"]).code, 3);
}

/// A refusal leaves no file behind.
#[test]
fn refused_enrollment_changes_nothing() {
    let scene = Scene::start();
    let gateway = scene.pki.setup().start();
    let credential = format!(
        "credential = {{ kpm-id = \"{}\", kpm = \"{}\" }}",
        OTHER_KPM.identity, OTHER_KPM.key
    );
    scene.write_light(&gateway, &credential);
    let refused = light(&gateway, &["enroll"]).expect(4);
    assert!(refused.err.contains("simpleenroll with 403"), "{refused:?}");
    assert!(refused.err.contains(OTHER), "{refused:?}");
    assert!(!gateway.path("light.pem").exists());
    light(&gateway, &["renew"]).expect(2);
}

/// The certificate of the MEF must prove its name.
#[test]
fn light_does_not_trust_another_mef() {
    let scene = Scene::start();
    let gateway = scene.pki.setup().start();
    scene.write_light(&gateway, &kpm());
    light(&gateway, &["enroll"]).expect(0);
    let text = fs::read_to_string(gateway.path("ae.toml")).unwrap();
    gateway.write("ae.toml", text.replace("fqdn = \"mef.", "fqdn = \"other."));
    let before = fs::read(gateway.path("light.pem")).unwrap();
    light(&gateway, &["renew", "--force"]).expect(3);
    assert_eq!(fs::read(gateway.path("light.pem")).unwrap(), before);
}

#[test]
fn invalid_configurations_are_reported() {
    let scene = Scene::start();
    let gateway = scene.pki.setup().start();
    scene.write_light(&gateway, "");
    let missing = light(&gateway, &["enroll"]).expect(2);
    assert!(missing.err.contains("mef.credential is missing"), "{missing:?}");
    scene.write_light(&gateway, &kpm());
    let text = fs::read_to_string(gateway.path("ae.toml")).unwrap();
    gateway.write("ae.toml", text.replace("key = \"light.pem\"", "key = \"light.key\""));
    let two = light(&gateway, &["enroll"]).expect(2);
    assert!(two.err.contains("must be the same file"), "{two:?}");
    let (start, rest) = text.split_once("[mef]").unwrap();
    let (_, end) = rest.split_once("[ae]").unwrap();
    gateway.write("ae.toml", format!("{start}[ae]{end}"));
    let none = light(&gateway, &["enroll"]).expect(2);
    assert!(none.err.contains("[mef] is missing"), "{none:?}");
}
