//! Handshakes at the IN-CSE with invalid MAF keys. All look like an unknown identity, and the log
//! states the cause.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::thread;

use saegis_tests::{Credential, Event, Offer, Request, Tool, seconds_from_now, with_each_client};

use super::clients::{KEY, KeyRequest, MafClient, identity, requests, retrievals};
use super::scene::{FQDN, IN_CSE, OTHER_KM, PHONE, PHONE_KM, RULES, Scene, Settings};

with_each_client!(invalid_maf_key_looks_like_unknown_identity);

/// A peer CSE.
const THIEF: &str = "//in.provider.com/mn-thief";

/// Returns the rules with one that allows smartphones to register keys for the thief.
pub fn rules_with_the_thief() -> String {
    format!("{RULES}\n[[rule]]\nsources = [\"{PHONE}\"]\ntargets = [\"{THIEF}\"]\nsuids = [32]\n")
}

/// Starts a scene in which the smartphone may register keys for the thief.
fn with_the_thief() -> Scene {
    let mut settings = Settings::new();
    settings.maf = settings.maf.file("maf-rules.toml", &rules_with_the_thief());
    settings.start()
}

/// Asserts that a handshake is refused like all others, and returns the log event.
#[track_caller]
fn assert_refused(scene: &Scene, tool: Tool, identity: &str, key: &str) -> Event {
    let mark = scene.infrastructure.log().mark();
    let refused = tool.refused(scene.infrastructure.port(), Credential { identity, key });
    assert_eq!(refused.alert, Some(20), "{identity}: {refused:?}");
    let named = format!("{identity:?}");
    let fits = |event: &Event| event.message().contains(&named);
    scene.infrastructure.log().wait_for(mark, "handshake.refused", fits)
}

fn invalid_maf_key_looks_like_unknown_identity(tool: Tool) {
    let scene = with_the_thief();
    let mut phone = MafClient::registered(tool, &scene.maf, PHONE_KM, PHONE);
    let esprim = phone.key_at(FQDN, &KeyRequest { suid: 33, ..KeyRequest::USUAL });
    let thiefs = phone.key_at(FQDN, &KeyRequest { targets: &[THIEF], ..KeyRequest::USUAL });
    let good = phone.key_at(FQDN, &KeyRequest::USUAL);
    let made_up = identity(&"0".repeat(32));
    let nothing = "no such key for this CSE";
    for (identity, key, cause, why) in [
        ("nobody@in.provider.com", KEY, "unknown-identity", "no module knows it"),
        (&esprim, KEY, "refused-by-module", "not for security associations"),
        (&thiefs, KEY, "refused-by-module", nothing),
        (&made_up, KEY, "refused-by-module", nothing),
        (&good.to_lowercase(), KEY, "refused-by-module", nothing),
        // The Km is only for the MAF.
        (PHONE_KM.0, PHONE_KM.1, "refused-by-module", nothing),
        (&good, &KEY.replace('c', "d"), "wrong-key", ""),
        (&good, &KEY[..32], "wrong-key", ""),
    ] {
        let event = assert_refused(&scene, tool, identity, key);
        assert_eq!(event.text("cause"), cause, "{event:?}");
        assert!(event.message().contains(why), "{why}: {event:?}");
    }
    // The same holds in the other direction.
    let mark = scene.maf.log().mark();
    let distributed = Credential { identity: &good, key: KEY };
    assert_eq!(tool.refused(scene.maf.port(), distributed).alert, Some(20));
    assert_eq!(scene.maf.handshake_refused(mark).text("cause"), "unknown-identity");
    let mut light = tool.connect(scene.infrastructure.port(), distributed);
    light.ask(&Request::retrieve("/cse/nothing").from("Cphone")).expect_refusal(404, 4004);
    for log in [scene.maf.log(), scene.infrastructure.log()] {
        assert!(!log.text().to_lowercase().contains(KEY), "the key is in the log");
    }
}

/// The gateway queries the MAF only for valid identities of its domain.
#[test]
fn invalid_key_identity_is_not_sent_to_maf() {
    let scene = Scene::start();
    // The IN-CSE has registered and has an association with the MAF.
    assert_refused(&scene, Tool::OpenSsl, &identity("A"), KEY);
    let before = requests(&scene.maf);
    for (elsewhere, why) in [
        ("A@maf.other.provider.com", "no module knows it"),
        ("A@in.provider.com", "no module knows it"),
        ("A@maf.in.provider.com.", ""),
        ("A@x.maf.in.provider.com", "no module knows it"),
    ] {
        let event = assert_refused(&scene, Tool::OpenSsl, elsewhere, KEY);
        let cause = event.text("cause");
        assert!(["unknown-identity", "refused-by-module"].contains(&&*cause), "{event:?}");
        assert!(event.message().contains(why), "{why}: {event:?}");
    }
    let long = "A".repeat(65);
    let longer = "A".repeat(100);
    for odd in [
        "",
        " ",
        "A B",
        "A/B",
        "A%2FB",
        "A?B",
        "A#B",
        "A@B",
        "A\\B",
        "A:B",
        "A\tB",
        "Ä",
        "*",
        "-",
        "_",
        ".",
        "..",
        "mcr-00112233445566778899aabbccddeeff",
        &long,
        &longer,
    ] {
        let credential = Credential { identity: &identity(odd), key: KEY };
        let mark = scene.infrastructure.log().mark();
        let refused = Tool::OpenSsl.refused(scene.infrastructure.port(), credential);
        assert_eq!(refused.alert, Some(20), "{odd:?}: {refused:?}");
        let event = scene.infrastructure.handshake_refused(mark);
        let cause = event.text("cause");
        assert!(["unknown-identity", "refused-by-module"].contains(&&*cause), "{odd:?}: {event:?}");
        assert!(!event.message().contains("cannot be reached"), "{odd:?}: {event:?}");
    }
    assert_eq!(requests(&scene.maf), before, "the MAF received a request");
    assert!(!scene.infrastructure.log().text().contains("maf.failed"));
}

/// Repeated handshakes with an unknown identity cause one query.
#[test]
fn unknown_key_identity_is_queried_once() {
    let scene = Scene::start();
    assert_refused(&scene, Tool::OpenSsl, &identity("A"), KEY);
    let (all, unknown) = (requests(&scene.maf), retrievals(&scene.maf, 4004));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..4 {
                    let made_up = identity("B");
                    let credential = Credential { identity: &made_up, key: KEY };
                    let refused = Tool::OpenSsl.refused(scene.infrastructure.port(), credential);
                    assert_eq!(refused.alert, Some(20), "{refused:?}");
                }
            });
        }
    });
    assert_eq!(requests(&scene.maf) - all, 1);
    assert_eq!(retrievals(&scene.maf, 4004) - unknown, 1.0);
}

/// Concurrent handshakes with an uncached key share one retrieval.
#[test]
fn concurrent_lookups_share_one_retrieval() {
    let scene = Scene::start();
    let mut phone = MafClient::registered(Tool::OpenSsl, &scene.maf, PHONE_KM, PHONE);
    let identity = phone.key_at(FQDN, &KeyRequest::USUAL);
    thread::scope(|scope| {
        for _ in 0..30 {
            scope.spawn(|| {
                let credential = Credential { identity: &identity, key: KEY };
                let port = scene.infrastructure.port();
                let came = Tool::OpenSsl.try_connect(port, credential, Offer::MANDATED);
                assert!(came.is_ok(), "{:?}", came.err());
            });
        }
    });
    // After the first response, the IN-CSE registers.
    assert_eq!((retrievals(&scene.maf, 2000), retrievals(&scene.maf, 4103)), (1.0, 1.0));
}

/// `saegis ae` obtains the next key before the first one expires. Both are valid for a while.
#[test]
fn next_key_is_obtained_before_expiry() {
    let scene = Scene::start();
    scene.phone(&["register"]).expect(0);
    let (identity, key) = scene.phone_key();
    let first = Credential { identity: &identity, key: &key };
    scene.phone(&["show"]).expect(0);
    assert_eq!(scene.phone_key().0, identity, "it is far from its expiry");
    // Now most of its time has passed.
    let file = scene.infrastructure.path("maf-key.toml");
    let text = fs::read_to_string(&file).unwrap();
    let is_time = |line: &&str| line.starts_with("registered") || line.starts_with("expires");
    let mut text: Vec<_> = text.lines().filter(|line| !is_time(line)).collect();
    let expires = seconds_from_now(600);
    let times = format!("registered = \"20260101T000000\"\nexpires = \"{expires}\"\n");
    text.push(&times);
    fs::write(&file, text.join("\n")).unwrap();
    scene.phone(&["show"]).expect(0);
    assert_ne!(scene.phone_key().0, identity);
    let mut light = Tool::OpenSsl.connect(scene.infrastructure.port(), first);
    light.ask(&Request::retrieve("/cse/phone").from("Cphone")).expect(200, 2000);
}

/// A key and its associations end at the expiry.
#[test]
fn key_and_its_associations_expire() {
    let scene = Scene::start();
    let (id, key) = PHONE_KM;
    let credential = format!("kpsa-id = \"{id}\"\nkpsa = \"{key}\"\n");
    scene.write_phone(&credential, IN_CSE, "lifetime-seconds = 15");
    scene.phone(&["register"]).expect(0);
    let (identity, key) = scene.phone_key();
    let first = Credential { identity: &identity, key: &key };
    let mark = scene.infrastructure.log().mark();
    let mut live = Tool::OpenSsl.connect(scene.infrastructure.port(), first);
    let established = scene.infrastructure.log().wait_after(mark, "association.established");
    let number = established.number("association");
    live.ended();
    let ended = scene
        .infrastructure
        .log()
        .wait_for(mark, "association.ended", |event| event.number("association") == number);
    assert_eq!(ended.text("why"), "credential expired", "{ended:?}");
    let event = assert_refused(&scene, Tool::OpenSsl, &identity, &key);
    assert!(event.message().contains("no such key"), "{event:?}");
    scene.phone(&["show"]).expect(0);
}

/// A registration with a past expiry is refused.
#[test]
fn expired_key_cannot_be_registered() {
    let scene = Scene::start();
    let mut phone = MafClient::registered(Tool::GnuTls, &scene.maf, PHONE_KM, PHONE);
    let now = KeyRequest { seconds: 0, ..KeyRequest::USUAL };
    phone.ask(now.request()).expect_refusal(400, 4000);
    assert!(seconds_from_now(0) < seconds_from_now(60), "timestamps can be compared as text");
}

/// A deleted key ends associations if the gateway rechecks keys, and does not otherwise.
#[test]
fn withdrawn_key_ends_rechecked_associations() {
    let mut settings = Settings::new();
    settings.more = "recheck-seconds = 1".into();
    let scene = settings.start();
    let without_recheck = Settings::new().infrastructure_of(&scene.maf).start();
    let mut source = MafClient::registered(Tool::OpenSsl, &scene.maf, PHONE_KM, PHONE);
    let relative = source.key(&KeyRequest::USUAL);
    let identity = identity(&relative);
    let credential = Credential { identity: &identity, key: KEY };
    let mut ends = Tool::OpenSsl.connect(scene.infrastructure.port(), credential);
    let mut stays = Tool::GnuTls.connect(without_recheck.port(), credential);
    let nothing = Request::retrieve("/cse/nothing").from("Cphone");
    for phone in [&mut ends, &mut stays] {
        phone.ask(&nothing).expect_refusal(404, 4004);
    }
    source.ask(Request::delete(&format!("/~/maf/{relative}"))).expect(200, 2002);
    ends.ended();
    let ended = scene.infrastructure.log().wait("association.ended");
    assert!(ended.message().contains("revoked"), "{ended:?}");
    let text = scene.infrastructure.log().text();
    assert!(text.contains("its key is no longer registered at the MAF"), "{text}");
    let event = assert_refused(&scene, Tool::OpenSsl, &identity, KEY);
    assert!(event.message().contains("no such key"), "{event:?}");
    stays.ask(&nothing).expect_refusal(404, 4004);
    Tool::OpenSsl.connect(without_recheck.port(), credential);
}

/// `saegis ae` reports the reason with an exit code.
#[test]
fn ae_command_reports_why_no_key_is_available() {
    let scene = Scene::start();
    let credential = |(id, key): (&str, &str)| format!("kpsa-id = \"{id}\"\nkpsa = \"{key}\"\n");
    // A target without a rule.
    scene.write_phone(&credential(PHONE_KM), THIEF, "");
    let ran = scene.phone(&["register"]).expect(4);
    assert!(ran.err.contains("4103") && ran.err.contains("no rule"), "{ran:?}");
    // A Km that the MAF does not know, or that belongs to another client.
    scene.write_phone(&credential((PHONE_KM.0, KEY)), IN_CSE, "");
    scene.phone(&["register"]).expect(3);
    scene.write_phone(&credential(OTHER_KM), IN_CSE, "");
    let ran = scene.phone(&["register"]).expect(4);
    assert!(ran.err.contains("4106"), "{ran:?}");
    let file = scene.infrastructure.path("maf-key.toml");
    assert!(!file.exists());

    scene.write_phone(&credential(PHONE_KM), IN_CSE, "");
    scene.phone(&["register"]).expect(0);
    let (_, key) = scene.phone_key();
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    for (text, mode) in [(text.replace("expires", "expire"), 0o600), (text, 0o644)] {
        scene.infrastructure.write("maf-key.toml", text);
        fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
        let ran = scene.phone(&["show"]).expect(2);
        assert!(ran.err.contains("maf-key.toml") && !ran.err.contains(&key), "{ran:?}");
    }
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    scene.phone(&["show"]).expect(0);
}
