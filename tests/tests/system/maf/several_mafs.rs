//! Several MAFs, and a MAF with the wrong name.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use saegis_test_ca::{Name, Request};
use saegis_tests::{Credential, Setup, Tool};

use super::clients::{KEY, KeyRequest, MafClient, identity, requests};
use super::scene::{FQDN, IN_CSE, PHONE, RULES, Scene, Settings};

/// Domain name of the second MAF.
const SECOND: &str = "maf2.in.provider.com";
const PHONE_KM2: (&str, &str) = ("phone@maf2.in.provider.com", "505152535455565758595a5b5c5d5e5f");
const IN_KM2: (&str, &str) = ("in@maf2.in.provider.com", "606162636465666768696a6b6c6d6e6f");

#[test]
fn keys_are_retrieved_from_their_own_maf() {
    let row = |client: &str, (id, key): (&str, &str)| format!("{client},{key},{id}\n");
    let rows = [row(PHONE, PHONE_KM2), row(IN_CSE, IN_KM2)];
    let second = Setup::maf(SECOND)
        .with_metrics()
        .file("km-table.csv", &format!("client_id,km,km_id\n{}", rows.concat()))
        .file("maf-rules.toml", RULES)
        .start();
    let mut settings = Settings::new();
    let (id, key) = IN_KM2;
    settings.infrastructure = settings.infrastructure.with_another(
        "[maf-peer]",
        &format!(
            "fqdn = \"{SECOND}\"\naddress = \"127.0.0.1:{}\"\n\
             credential = {{ km-id = \"{id}\", km = \"{key}\" }}",
            second.port()
        ),
    );
    let scene = settings.start();
    let other_key = KEY.replace('c', "e");
    let value = Some(&*other_key);
    let mut at_first =
        MafClient::registered(Tool::OpenSsl, &scene.maf, super::scene::PHONE_KM, PHONE);
    let mut at_second = MafClient::registered(Tool::OpenSsl, &second, PHONE_KM2, PHONE);
    let first_id = at_first.key(&KeyRequest::USUAL);
    let second_id = at_second.key(&KeyRequest { value, ..KeyRequest::USUAL });

    for (identity, key) in [
        (identity(&first_id), KEY),
        (format!("{second_id}@{SECOND}"), &other_key),
        // Domain names are not case-sensitive.
        (format!("{second_id}@{}", SECOND.to_uppercase()), &other_key),
    ] {
        let mark = scene.infrastructure.log().mark();
        let credential = Credential { identity: &identity, key };
        Tool::OpenSsl.connect(scene.infrastructure.port(), credential).close();
        let association = scene.infrastructure.log().wait_after(mark, "association.established");
        assert_eq!(
            association.text("credential_id").to_lowercase(),
            format!("12-{identity}").to_lowercase()
        );
        scene.infrastructure.log().wait_after(mark, "association.ended");
    }

    // The second MAF has no such key, and the first is not queried.
    let asked = [requests(&scene.maf), requests(&second)];
    for (identity, key) in
        [(format!("{first_id}@{SECOND}"), KEY), (identity(&second_id), &other_key)]
    {
        let mark = scene.infrastructure.log().mark();
        let credential = Credential { identity: &identity, key };
        let refused = Tool::GnuTls.refused(scene.infrastructure.port(), credential);
        assert_eq!(refused.alert, Some(20), "{refused:?}");
        let event = scene.infrastructure.handshake_refused(mark);
        assert!(event.message().contains("no such key"), "{event:?}");
    }
    assert_eq!([requests(&scene.maf) - asked[0], requests(&second) - asked[1]], [1, 1]);

    // An unreachable MAF does not affect the other.
    second.signal("STOP");
    let third = at_first.key_at(FQDN, &KeyRequest::USUAL);
    let credential = Credential { identity: &third, key: KEY };
    Tool::OpenSsl.connect(scene.infrastructure.port(), credential);
    second.signal("CONT");
}

/// A certificate of the right authority with another name does not authenticate a MAF.
#[test]
fn maf_with_wrong_name_is_not_queried() {
    let settings = Settings::with_certificates();
    let example = settings.certificates.as_ref().unwrap();
    let name = format!("other.{FQDN}");
    let other = example.fqdn_authority.issue(&Request::new("other").name(Name::dns(name))).unwrap();
    for (file, text) in [("own.pem", other.chain_pem()), ("own.key", &*other.key_pem())] {
        let path = settings.maf.path(&format!("policies/{file}"));
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    }
    let scene = settings.start();
    let why = format!("does not prove {FQDN}");

    let phone = scene.phone(&["register"]).expect(3);
    assert!(phone.err.contains(&why), "{phone:?}");
    assert!(!scene.infrastructure.path("maf-key.toml").exists());

    let mark = scene.infrastructure.log().mark();
    let credential = Credential { identity: &identity("A"), key: KEY };
    let refused = Tool::OpenSsl.refused(scene.infrastructure.port(), credential);
    assert_eq!(refused.alert, Some(20), "{refused:?}");
    let failed = scene.infrastructure.log().wait_after(mark, "maf.failed");
    assert!(failed.message().contains(&why), "{failed:?}");
    let event = scene.infrastructure.handshake_refused(mark);
    assert!(event.message().contains("cannot be reached"), "{event:?}");
    assert_eq!(requests(&scene.maf), 0);
    assert!(
        scene.maf.log().all(saegis_tests::Mark::START, "association.established", 0).is_empty()
    );
}

/// The MAF authenticates the gateway as well. Without a trusted certificate there is no
/// association, and the phone's key does not work.
#[test]
fn gateway_rejected_by_maf_gets_no_key() {
    let settings = Settings::with_certificates();
    let strangers = Settings::with_certificates();
    fs::copy(strangers.maf.path("policies/cse-id.pem"), settings.maf.path("policies/cse-id.pem"))
        .unwrap();
    let scene: Scene = settings.start();
    let phone = scene.phone(&["register"]).expect(3);
    // The phone has its key, but the IN-CSE cannot retrieve it.
    let (identity, key) = scene.phone_key();
    assert!(phone.err.contains("no association with /in-cse"), "{phone:?}");
    let failed = scene.infrastructure.log().wait("maf.failed");
    assert!(failed.message().contains(FQDN), "{failed:?}");
    scene.maf.log().wait("handshake.refused");
    let credential = Credential { identity: &identity, key: &key };
    let refused = Tool::OpenSsl.refused(scene.infrastructure.port(), credential);
    assert_eq!(refused.alert, Some(20), "{refused:?}");
}
