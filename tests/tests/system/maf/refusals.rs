//! Handshakes at the IN-CSE with keys that are none for it: outside all look like an identity that
//! nobody has, in the log each says what it is.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::thread;

use saegis_tests::{Credential, Event, Offer, Request, Tool, seconds_from_now, with_each_client};

use super::clients::{KEY, MafClient, Wanted, identity, requests, retrievals};
use super::scene::{FQDN, IN_CSE, OTHER_KM, PHONE, PHONE_KM, RULES, Scene, Settings};

with_each_client!(what_is_no_key_here_looks_like_an_unknown_identity);

/// Another CSE.
const THIEF: &str = "//in.provider.com/mn-thief";

/// The rules, and one by which smartphones may have keys for the thief.
pub fn rules_with_the_thief() -> String {
    format!("{RULES}\n[[rule]]\nsources = [\"{PHONE}\"]\ntargets = [\"{THIEF}\"]\nsuids = [32]\n")
}

/// A scene in which the smartphone may register keys for the thief.
fn with_the_thief() -> Scene {
    let mut settings = Settings::new();
    settings.maf = settings.maf.file("maf-rules.toml", &rules_with_the_thief());
    settings.start()
}

/// Has a handshake refused as all are, and tells what the log says of it.
#[track_caller]
fn refused(scene: &Scene, tool: Tool, identity: &str, key: &str) -> Event {
    let mark = scene.infrastructure.log().mark();
    let refused = tool.refused(scene.infrastructure.port(), Credential { identity, key });
    assert_eq!(refused.alert, Some(20), "{identity}: {refused:?}");
    let named = format!("{identity:?}");
    let fits = |event: &Event| event.message().contains(&named);
    scene.infrastructure.log().wait_for(mark, "handshake.refused", fits)
}

fn what_is_no_key_here_looks_like_an_unknown_identity(tool: Tool) {
    let scene = with_the_thief();
    let mut phone = MafClient::registered(tool, &scene.maf, PHONE_KM, PHONE);
    let esprim = phone.key_at(FQDN, &Wanted { suid: 33, ..Wanted::USUAL });
    let thiefs = phone.key_at(FQDN, &Wanted { targets: &[THIEF], ..Wanted::USUAL });
    let good = phone.key_at(FQDN, &Wanted::USUAL);
    let made_up = identity(&"0".repeat(32));
    let nothing = "no such key for this CSE";
    for (identity, key, cause, why) in [
        ("nobody@in.provider.com", KEY, "identity", "no module knows it"),
        (&esprim, KEY, "identity", "not for security associations"),
        (&thiefs, KEY, "identity", nothing),
        (&made_up, KEY, "identity", nothing),
        (&good.to_lowercase(), KEY, "identity", nothing),
        // What it has with the MAF is for the MAF.
        (PHONE_KM.0, PHONE_KM.1, "identity", nothing),
        (&good, &KEY.replace('c', "d"), "wrong-key", ""),
        (&good, &KEY[..32], "wrong-key", ""),
    ] {
        let event = refused(&scene, tool, identity, key);
        assert_eq!(event.text("cause"), cause, "{event:?}");
        assert!(event.message().contains(why), "{why}: {event:?}");
    }
    // And the other way round.
    let mark = scene.maf.log().mark();
    let distributed = Credential { identity: &good, key: KEY };
    assert_eq!(tool.refused(scene.maf.port(), distributed).alert, Some(20));
    assert_eq!(scene.maf.handshake_refused(mark).text("cause"), "identity");
    let mut light = tool.connect(scene.infrastructure.port(), distributed);
    light.ask(&Request::retrieve("/cse/nothing").from("Cphone")).expect_refusal(404, 4004);
    for log in [scene.maf.log(), scene.infrastructure.log()] {
        assert!(!log.text().to_lowercase().contains(KEY), "the key is in the log");
    }
}

/// A MAF is asked about its own identities, and about nothing that is none.
#[test]
fn what_can_be_no_key_does_not_come_to_the_maf() {
    let scene = Scene::start();
    // The IN-CSE has registered, and has its association with the MAF.
    refused(&scene, Tool::OpenSsl, &identity("A"), KEY);
    let before = requests(&scene.maf);
    for (elsewhere, why) in [
        ("A@maf.other.provider.com", "no module knows it"),
        ("A@in.provider.com", "no module knows it"),
        ("A@maf.in.provider.com.", ""),
        ("A@x.maf.in.provider.com", "no module knows it"),
    ] {
        let event = refused(&scene, Tool::OpenSsl, elsewhere, KEY);
        assert_eq!(event.text("cause"), "identity", "{event:?}");
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
        "own",
        "mcr-00112233445566778899aabbccddeeff",
        &long,
        &longer,
    ] {
        let credential = Credential { identity: &identity(odd), key: KEY };
        let mark = scene.infrastructure.log().mark();
        let refused = Tool::OpenSsl.refused(scene.infrastructure.port(), credential);
        assert_eq!(refused.alert, Some(20), "{odd:?}: {refused:?}");
        let event = scene.infrastructure.handshake_refused(mark);
        assert_eq!(event.text("cause"), "identity", "{odd:?}: {event:?}");
        assert!(!event.message().contains("can't be reached"), "{odd:?}: {event:?}");
    }
    assert_eq!(requests(&scene.maf), before, "the MAF was asked");
    assert!(!scene.infrastructure.log().text().contains("maf.failed"));
}

/// Who hammers at a gateway with an identity that it made up does not hammer at the MAF.
#[test]
fn a_made_up_identity_is_asked_about_once() {
    let scene = Scene::start();
    refused(&scene, Tool::OpenSsl, &identity("A"), KEY);
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

/// Many who come at once with a key that is not in hand wait for one retrieval.
#[test]
fn a_key_that_many_wait_for_is_retrieved_once() {
    let scene = Scene::start();
    let mut phone = MafClient::registered(Tool::OpenSsl, &scene.maf, PHONE_KM, PHONE);
    let identity = phone.key_at(FQDN, &Wanted::USUAL);
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
    // The first answer is that the IN-CSE has to register.
    assert_eq!((retrievals(&scene.maf, 2000), retrievals(&scene.maf, 4103)), (1.0, 1.0));
}

/// A key is good until its time, to the associations that it made as well. `saegis ae` has another
/// before that.
#[test]
fn a_key_ends_at_its_time_and_there_is_another_before() {
    let scene = Scene::start();
    let (id, key) = PHONE_KM;
    let credential = format!("kpsa-id = \"{id}\"\nkpsa = \"{key}\"\n");
    scene.write_phone(&credential, IN_CSE, "lifetime-seconds = 15");
    scene.phone(&["register"]).expect(0);
    let (identity, key) = scene.key_in_hand();
    let port = scene.infrastructure.port();
    let first = Credential { identity: &identity, key: &key };
    let mark = scene.infrastructure.log().mark();
    let mut live = Tool::OpenSsl.connect(port, first);
    live.ask(&Request::retrieve("/cse/phone").from("Cphone")).expect(200, 2000);
    let established = scene.infrastructure.log().wait_after(mark, "association.established");
    let number = established.number("association");
    while scene.key_in_hand().0 == identity {
        scene.phone(&["show"]).expect(0);
        // Fewer associations than those whose ends are summed up.
        thread::sleep(std::time::Duration::from_millis(250));
        assert!(live.runs(), "the key is over, and there is no other");
    }
    // Both are good for a while.
    live.ask(&Request::retrieve("/cse/phone").from("Cphone")).expect(200, 2000);
    live.ended();
    let ended = scene
        .infrastructure
        .log()
        .wait_for(mark, "association.ended", |event| event.number("association") == number);
    assert_eq!(ended.text("why"), "credential expired", "{ended:?}");
    let event = refused(&scene, Tool::OpenSsl, &identity, &key);
    assert!(event.message().contains("no such key"), "{event:?}");
    scene.phone(&["show"]).expect(0);
}

/// A registration with a time that is over is none.
#[test]
fn a_key_that_is_over_can_not_be_registered() {
    let scene = Scene::start();
    let mut phone = MafClient::registered(Tool::GnuTls, &scene.maf, PHONE_KM, PHONE);
    let now = Wanted { seconds: 0, ..Wanted::USUAL };
    phone.ask(now.request()).expect_refusal(400, 4000);
    assert!(seconds_from_now(0) < seconds_from_now(60), "times can be compared as texts");
}

/// What the source takes back ends associations where that is looked for, and not where it is not.
#[test]
fn withdrawn_key_ends_rechecked_associations() {
    let mut settings = Settings::new();
    settings.more = "recheck-seconds = 1".into();
    let scene = settings.start();
    let does_not_look = Settings::new().infrastructure_of(&scene.maf).start();
    let mut source = MafClient::registered(Tool::OpenSsl, &scene.maf, PHONE_KM, PHONE);
    let relative = source.key(&Wanted::USUAL);
    let identity = identity(&relative);
    let credential = Credential { identity: &identity, key: KEY };
    let mut ends = Tool::OpenSsl.connect(scene.infrastructure.port(), credential);
    let mut stays = Tool::GnuTls.connect(does_not_look.port(), credential);
    let nothing = Request::retrieve("/cse/nothing").from("Cphone");
    for phone in [&mut ends, &mut stays] {
        phone.ask(&nothing).expect_refusal(404, 4004);
    }
    source.ask(Request::delete(&format!("/~/maf/{relative}"))).expect(200, 2002);
    ends.ended();
    let ended = scene.infrastructure.log().wait("association.ended");
    assert!(ended.message().contains("revoked"), "{ended:?}");
    let text = scene.infrastructure.log().text();
    assert!(text.contains("its key is registered at the MAF no more"), "{text}");
    let event = refused(&scene, Tool::OpenSsl, &identity, KEY);
    assert!(event.message().contains("no such key"), "{event:?}");
    stays.ask(&nothing).expect_refusal(404, 4004);
    Tool::OpenSsl.connect(does_not_look.port(), credential);
}

/// `saegis ae` says what is in its way, and gives it a code.
#[test]
fn a_phone_without_a_key_says_why() {
    let scene = Scene::start();
    let credential = |(id, key): (&str, &str)| format!("kpsa-id = \"{id}\"\nkpsa = \"{key}\"\n");
    // For whom it may have no key.
    scene.write_phone(&credential(PHONE_KM), THIEF, "");
    let ran = scene.phone(&["register"]).expect(4);
    assert!(ran.err.contains("4103") && ran.err.contains("no rule"), "{ran:?}");
    // With a Km that the MAF does not have, or has for another client.
    scene.write_phone(&credential((PHONE_KM.0, KEY)), IN_CSE, "");
    scene.phone(&["register"]).expect(3);
    scene.write_phone(&credential(OTHER_KM), IN_CSE, "");
    let ran = scene.phone(&["register"]).expect(4);
    assert!(ran.err.contains("4106"), "{ran:?}");
    let file = scene.infrastructure.path("maf-key.toml");
    assert!(!file.exists());

    scene.write_phone(&credential(PHONE_KM), IN_CSE, "");
    scene.phone(&["register"]).expect(0);
    let (_, key) = scene.key_in_hand();
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
