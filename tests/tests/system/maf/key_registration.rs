//! Requests that a MAF refuses. All clients are those of OpenSSL and GnuTLS.

use saegis_tests::{Event, Mark, Request, Response, Tool};

use super::clients::{KEY, KeyRequest, MafClient};
use super::refusals::rules_with_the_thief;
use super::scene::{IN_CSE, IN_KM, OTHER_KM, PHONE, PHONE_KM, RULES, Scene, Settings, THIEF_KM};

const OTHER: &str = "//in.provider.com/in-cse/Cother";
const THIEF: &str = "//in.provider.com/mn-thief";

/// Returns a response without the request identifier and the date.
fn comparable(answer: &Response) -> (u16, Vec<(String, String)>, String) {
    let headers = answer.headers().iter().filter(|(name, _)| name != "x-m2m-ri" && name != "date");
    (answer.status(), headers.cloned().collect(), answer.text())
}

#[test]
fn key_is_distributed_from_openssl_to_gnutls() {
    let scene = Scene::start();
    for (source, target) in [(Tool::OpenSsl, Tool::GnuTls), (Tool::GnuTls, Tool::OpenSsl)] {
        let scene = if source == Tool::OpenSsl { &scene } else { &Scene::start() };
        let mut phone = MafClient::registered(source, &scene.maf, PHONE_KM, PHONE);
        let mut in_cse = MafClient::registered(target, &scene.maf, IN_KM, IN_CSE);
        let relative = phone.key(&KeyRequest::USUAL);
        let found = in_cse.retrieve(&relative).expect(200, 2000).json();
        let attributes = &found["sec:symmKeyReg"];
        assert_eq!(attributes["keyValue"].as_str().unwrap().to_lowercase(), KEY);
        assert_eq!(attributes["scid"], PHONE);
        assert_eq!(attributes["suid"], 32);
        let given = scene.maf.log().wait("maf.key.retrieved");
        assert_eq!(given.text("client"), IN_CSE);
        assert_eq!(given.text("relative_key_id"), relative);
        // The session's key differs, and the target gets it as well.
        let of_session = phone.key(&KeyRequest { value: None, ..KeyRequest::USUAL });
        let found = in_cse.retrieve(&of_session).expect(200, 2000).json();
        let value = found["sec:symmKeyReg"]["keyValue"].as_str().unwrap();
        assert!(value.len() == 64 && value.to_lowercase() != KEY, "{found}");
        // Once for each session.
        let again = KeyRequest { value: None, ..KeyRequest::USUAL };
        phone.ask(again.request()).expect_refusal(409, 4105);
        let log = scene.maf.log().text().to_lowercase();
        assert!(!log.contains(KEY) && !log.contains(&value.to_lowercase()));
    }
}

#[test]
fn key_existence_is_visible_to_target_only() {
    let mut settings = Settings::new();
    settings.maf = settings.maf.file("maf-rules.toml", &rules_with_the_thief());
    let scene = settings.start();
    let mut phone = MafClient::registered(Tool::OpenSsl, &scene.maf, PHONE_KM, PHONE);
    let mut in_cse = MafClient::registered(Tool::OpenSsl, &scene.maf, IN_KM, IN_CSE);
    let mut thief = MafClient::registered(Tool::GnuTls, &scene.maf, THIEF_KM, THIEF);
    let for_in = phone.key(&KeyRequest::USUAL);
    let for_thief = phone.key(&KeyRequest { targets: &[THIEF], ..KeyRequest::USUAL });
    let unknown = "0".repeat(32);
    let removed = phone.key(&KeyRequest::USUAL);
    phone.ask(Request::delete(&format!("/~/maf/{removed}"))).expect(200, 2002);
    let mark = scene.maf.log().mark();
    let model = in_cse.retrieve(&unknown).expect_refusal(404, 4004);
    for (client, all) in [
        (&mut in_cse, &[&for_thief, &removed, &unknown][..]),
        (&mut thief, &[&for_in, &removed, &unknown]),
        // Even the source cannot retrieve it.
        (&mut phone, &[&for_in, &for_thief, &removed, &unknown]),
    ] {
        for relative in all {
            assert_eq!(comparable(&client.retrieve(relative)), comparable(&model));
        }
    }
    // The target can neither change nor delete the source's registration.
    for relative in [&for_in, &for_thief, &unknown] {
        let gone = in_cse.ask(Request::delete(&format!("/~/maf/{relative}")));
        assert_eq!(comparable(&gone), comparable(&model));
    }
    let refused = scene.maf.log().all(mark, "request.refused", 14);
    assert!(refused.iter().all(|event| event.number("rsc") == 4004), "{refused:?}");
    assert!(refused.iter().any(|event| event.text("operation") == "delete"), "{refused:?}");
    thief.retrieve(&for_thief).expect(200, 2000);
    in_cse.retrieve(&for_in).expect(200, 2000);
}

#[test]
fn unregistered_and_foreign_clients_get_no_key() {
    let scene = Scene::start();
    let mut phone = MafClient::connect(Tool::OpenSsl, &scene.maf, PHONE_KM, PHONE);
    let mark = scene.maf.log().mark();
    phone.ask(KeyRequest::USUAL.request()).expect_refusal(403, 4103);
    phone.retrieve("A").expect_refusal(403, 4103);
    let refused = scene.maf.log().all(mark, "request.refused", 2);
    assert!(refused.iter().all(|e| e.message().contains("not registered")), "{refused:?}");
    phone.register().expect(201, 2001);
    for from in [IN_CSE, OTHER, "Cphone", "/in-cse/Cphone", "//IN.provider.com/in-cse/Cphone", "C"]
    {
        let mark = scene.maf.log().mark();
        phone.ask_as(from, KeyRequest::USUAL.request()).expect_refusal(403, 4106);
        let event = scene.maf.log().wait_after(mark, "request.refused");
        assert_eq!((event.text("from"), event.number("rsc")), (from.into(), 4106));
    }
    // A key for associations has one target.
    for targets in [&[IN_CSE, THIEF][..], &[]] {
        for suid in [32, 33] {
            let wanted = KeyRequest { targets, suid, ..KeyRequest::USUAL };
            phone.ask(wanted.request()).expect_refusal(400, 4000);
        }
    }
    assert!(scene.maf.log().all(mark, "maf.key.registered", 0).is_empty());
}

/// The current rules of the file apply. With an invalid file no key can be registered, and
/// registered keys stay.
#[test]
fn key_registration_follows_rules() {
    let scene = Scene::start();
    let mut phone = MafClient::registered(Tool::GnuTls, &scene.maf, PHONE_KM, PHONE);
    let mut other = MafClient::registered(Tool::OpenSsl, &scene.maf, OTHER_KM, OTHER);
    let mut in_cse = MafClient::registered(Tool::OpenSsl, &scene.maf, IN_KM, IN_CSE);
    let relative = phone.key(&KeyRequest::USUAL);
    let mark = scene.maf.log().mark();
    let for_thief = KeyRequest { targets: &[THIEF], ..KeyRequest::USUAL };
    other.ask(KeyRequest::USUAL.request()).expect_refusal(403, 4103);
    phone.ask(for_thief.request()).expect_refusal(403, 4103);
    phone.ask(KeyRequest { suid: 34, ..KeyRequest::USUAL }.request()).expect_refusal(403, 4103);
    let refused = scene.maf.log().all(mark, "request.refused", 3);
    assert!(refused.iter().all(|event| event.message().contains("no rule")), "{refused:?}");

    let allowed = format!(
        "{RULES}\n[[rule]]\nsources = [\"{OTHER}\"]\ntargets = [\"{IN_CSE}\"]\nsuids = [32]\n"
    );
    scene.maf.in_force_after(|maf| maf.replace("policies/maf-rules.toml", &allowed));
    let others = other.key(&KeyRequest::USUAL);
    in_cse.retrieve(&others).expect(200, 2000);
    phone.ask(for_thief.request()).expect_refusal(403, 4103);

    for broken in ["[[rule", "[[rule]]\nsources = 1\n", "[[rules]]\n"] {
        scene.maf.in_force_after(|maf| maf.replace("policies/maf-rules.toml", broken));
        let mark = scene.maf.log().mark();
        for client in [&mut phone, &mut other] {
            let refused = client.ask(KeyRequest::USUAL.request()).expect(500, 5000);
            assert_eq!(refused.json()["m2m:dbg"], "the request could not be carried out");
        }
        let refused = scene.maf.log().all(mark, "request.refused", 2);
        let names_file = |event: &Event| event.message().contains("maf-rules.toml:");
        assert!(refused.iter().all(names_file), "{refused:?}");
        for relative in [&relative, &others] {
            in_cse.retrieve(relative).expect(200, 2000);
        }
    }
    scene.maf.in_force_after(|maf| maf.replace("policies/maf-rules.toml", RULES));
    phone.key(&KeyRequest::USUAL);
    other.ask(KeyRequest::USUAL.request()).expect_refusal(403, 4103);
    // Registered keys stay.
    in_cse.retrieve(&others).expect(200, 2000);
}

/// The rules apply to the targets that an update sets (TS-0003 clause 8.8.2.9).
#[test]
fn changed_targets_follow_rules() {
    let data = format!(
        "[[rule]]\nsources = [\"{PHONE}\"]\ntargets = [\"{IN_CSE}\", \"{OTHER}\"]\nsuids = [32, 34]\n"
    );
    let mut settings = Settings::new();
    settings.maf = settings.maf.file("maf-rules.toml", &data);
    let scene = settings.start();
    let mut phone = MafClient::registered(Tool::OpenSsl, &scene.maf, PHONE_KM, PHONE);
    let mut in_cse = MafClient::registered(Tool::OpenSsl, &scene.maf, IN_KM, IN_CSE);
    let mut other = MafClient::registered(Tool::GnuTls, &scene.maf, OTHER_KM, OTHER);
    let mut thief = MafClient::registered(Tool::GnuTls, &scene.maf, THIEF_KM, THIEF);
    let relative = phone.key(&KeyRequest { suid: 34, ..KeyRequest::USUAL });
    let change = |relative: &str, targets: &[&str]| {
        let content = serde_json::json!({ "sec:symmKeyReg": { "tgids": targets } });
        Request::update(&format!("/~/maf/{relative}"), &content)
    };
    let mark = scene.maf.log().mark();
    phone.ask(change(&relative, &[IN_CSE, THIEF])).expect_refusal(403, 4103);
    let refused = scene.maf.log().wait_after(mark, "request.refused");
    assert!(refused.message().contains("no rule"), "{refused:?}");
    thief.retrieve(&relative).expect_refusal(404, 4004);
    // Another client learns nothing about the key, not even what the rules say about it.
    let unknown = thief.ask(change(&"0".repeat(32), &[THIEF])).expect_refusal(404, 4004);
    let foreign = thief.ask(change(&relative, &[THIEF]));
    assert_eq!(comparable(&foreign), comparable(&unknown));

    let updated = phone.ask(change(&relative, &[OTHER])).expect(200, 2004).json();
    assert_eq!(updated, serde_json::json!({ "sec:symmKeyReg": { "tgids": [OTHER] } }));
    other.retrieve(&relative).expect(200, 2000);
    in_cse.retrieve(&relative).expect_refusal(404, 4004);
    // The single target of an association's key has the key, so it cannot be replaced.
    let single = phone.key(&KeyRequest::USUAL);
    phone.ask(change(&single, &[OTHER])).expect_refusal(400, 4000);
    other.retrieve(&single).expect_refusal(404, 4004);
}

/// A client registers for each administrating stakeholder, and a key needs that registration
/// (TS-0003 clauses 8.8.1 and 8.8.2.7).
#[test]
fn key_needs_registration_for_its_stakeholder() {
    let scene = Scene::start();
    let mut phone = MafClient::registered(Tool::OpenSsl, &scene.maf, PHONE_KM, PHONE);
    let mut in_cse = MafClient::registered(Tool::OpenSsl, &scene.maf, IN_KM, IN_CSE);
    phone.register().expect_refusal(403, 4117);
    let for_other = KeyRequest { admin: "other.example.com", ..KeyRequest::USUAL };
    let mark = scene.maf.log().mark();
    phone.ask(for_other.request()).expect_refusal(403, 4103);
    let refused = scene.maf.log().wait_after(mark, "request.refused");
    assert!(refused.message().contains("adminFQDN"), "{refused:?}");
    let second = phone.register_for("other.example.com").expect(201, 2001).json();
    let second = second["sec:mafClientReg"]["ri"].as_str().unwrap();
    let relative = phone.key(&for_other);
    let first = phone.key(&KeyRequest::USUAL);
    in_cse.retrieve(&relative).expect(200, 2000);
    phone.ask(Request::delete(&format!("/~/maf/{second}"))).expect(200, 2002);
    in_cse.retrieve(&relative).expect_refusal(404, 4004);
    in_cse.retrieve(&first).expect(200, 2000);
}

/// The base of a MAF is a setting of the MAF, the gateway and the AE.
#[test]
fn maf_with_other_base_distributes_keys() {
    let mut settings = Settings::new();
    settings.maf = settings.maf.with("maf", "base = \"keys\"");
    settings.more = "base = \"keys\"\n".into();
    let scene = settings.start();
    // The default of an AE is another one.
    assert_ne!(scene.phone(&["register"]).code, 0);
    let (id, key) = PHONE_KM;
    scene.write_phone(
        &format!("kpsa-id = \"{id}\"\nkpsa = \"{key}\"\n"),
        IN_CSE,
        "base = \"keys\"",
    );
    scene.phone(&["register"]).expect(0);
    assert!(scene.maf.log().wait("maf.key.retrieved").text("client") == IN_CSE);
}

/// Without the extended master secret, another session could export the same key.
#[test]
fn session_without_ems_gives_no_key() {
    let scene = Scene::start();
    let mut phone = MafClient::without_extended_master_secret(&scene.maf, PHONE_KM, PHONE);
    phone.register().expect(201, 2001);
    let mark = scene.maf.log().mark();
    let of_session = KeyRequest { value: None, ..KeyRequest::USUAL };
    phone.ask(of_session.request()).expect_refusal(403, 4107);
    let event = scene.maf.log().wait_after(mark, "request.refused");
    assert!(event.message().contains("extended master secret"), "{event:?}");
    phone.key(&KeyRequest::USUAL);
    let mut phone = MafClient::connect(Tool::GnuTls, &scene.maf, PHONE_KM, PHONE);
    phone.key(&of_session);
}

/// A MAF has client and key registrations and no other resources.
#[test]
fn maf_refuses_cse_requests() {
    let scene = Scene::start();
    let mut phone = MafClient::connect(Tool::OpenSsl, &scene.maf, PHONE_KM, PHONE);
    let registered = phone.register().expect(201, 2001).json();
    let own = registered["sec:mafClientReg"]["ri"].as_str().unwrap();
    let ae = serde_json::json!({ "m2m:ae": { "rn": "phone", "api": "Nphone", "rr": false } });
    let elsewhere = format!("/~/in-cse/{}", "0".repeat(32));
    for request in [
        Request::create("/~/maf/-", 2, &ae),
        Request::create_ae("phone"),
        Request::retrieve("/~/maf/-"),
        Request::retrieve("/cse"),
        Request::retrieve("/~/in-cse/cse"),
        Request::retrieve(&elsewhere),
        Request::retrieve(&format!("/_/maf2.in.provider.com/maf/{own}")),
        Request::retrieve(&format!("/~/maf/{own}?fu=1")),
        Request::new("NOTIFY", "/~/maf/-"),
    ] {
        let answer = phone.ask(request.clone());
        assert!((400..=501).contains(&answer.status()), "{request:?}: {answer:?}");
        assert!(!answer.debug().is_empty() && answer.rsc().is_some(), "{answer:?}");
    }
    let found = phone.retrieve(own).expect(200, 2000).json();
    assert_eq!(found["sec:mafClientReg"]["mcid"], PHONE);
}

/// A session that outlives the registration of its key cannot register it again.
#[test]
fn session_key_is_registered_only_once() {
    let scene = Scene::start();
    let mut phone = MafClient::registered(Tool::OpenSsl, &scene.maf, PHONE_KM, PHONE);
    let short = KeyRequest { value: None, seconds: 2, ..KeyRequest::USUAL };
    let relative = phone.key(&short);
    let mut in_cse = MafClient::registered(Tool::GnuTls, &scene.maf, IN_KM, IN_CSE);
    in_cse.retrieve(&relative).expect(200, 2000);
    std::thread::sleep(std::time::Duration::from_secs(3));
    in_cse.retrieve(&relative).expect_refusal(404, 4004);
    phone.ask(KeyRequest { value: None, ..KeyRequest::USUAL }.request()).expect_refusal(409, 4105);
    // Another key, or another session, can be registered.
    phone.key(&KeyRequest::USUAL);
    let mut anew = MafClient::connect(Tool::OpenSsl, &scene.maf, PHONE_KM, PHONE);
    anew.key(&KeyRequest { value: None, ..KeyRequest::USUAL });
}

/// Short keys and keys of one repeated byte are refused. Other weak keys cause a warning.
#[test]
fn guessable_key_is_not_registered() {
    let scene = Scene::start();
    let mut phone = MafClient::registered(Tool::OpenSsl, &scene.maf, PHONE_KM, PHONE);
    for (value, why) in [
        ("00", "fewer than 8 bytes"),
        ("1a2b3c4d5e6f7a", "fewer than 8 bytes"),
        ("0000000000000000", "one byte over and over"),
        (&"00".repeat(32), "one byte over and over"),
        (&"f5".repeat(64), "one byte over and over"),
    ] {
        let mark = scene.maf.log().mark();
        let wanted = KeyRequest { value: Some(value), ..KeyRequest::USUAL };
        phone.ask(wanted.request()).expect_refusal(400, 4000);
        let refused = scene.maf.log().wait_after(mark, "request.refused");
        assert!(refused.message().contains(why), "{refused:?}");
        assert!(value.len() < 8 || !refused.message().contains(value), "the key is in the log");
    }
    assert!(scene.maf.log().all(Mark::START, "maf.key.registered", 0).is_empty());
    for (value, weak) in [
        ("1a2b3c4d5e6f7a8b", true),
        (&"abcd".repeat(16), true),
        // The bytes of this key are consecutive.
        (KEY, true),
        ("9c36c8112163fa4d053d8e085ad303e1", false),
    ] {
        let mark = scene.maf.log().mark();
        let relative = phone.key(&KeyRequest { value: Some(value), ..KeyRequest::USUAL });
        scene.maf.log().wait_after(mark, "maf.key.registered");
        let warned = scene.maf.log().all(mark, "maf.weak-key", usize::from(weak));
        assert_eq!(warned.len(), usize::from(weak), "{value}");
        assert!(warned.iter().all(|e| e.text("relative_key_id") == relative), "{warned:?}");
    }
}
