//! Keys in hand at the IN-CSE: how they come there, and how they go.

use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use saegis_tests::{Credential, Light, Mark, Request, Tool};

use super::clients::{KEY, MafClient, Wanted, identity};
use super::scene::{IN_CSE, PHONE, PHONE_KM, Scene, Settings};

/// A device that goes away while its key is fetched costs one fetch, and what came of that is kept.
#[test]
fn a_fetch_outlives_the_handshake_that_began_it() {
    let scene = Scene::start();
    let mut source = MafClient::registered(Tool::OpenSsl, &scene.maf, PHONE_KM, PHONE);
    let identity = identity(&source.key(&Wanted::USUAL));
    let credential = Credential { identity: &identity, key: KEY };
    scene.maf.signal("STOP");
    let address = (Ipv4Addr::LOCALHOST, scene.infrastructure.port());
    let impatient = TcpStream::connect(address).unwrap();
    assert!(Light::over(impatient, credential, Duration::from_millis(500)).is_err());
    scene.maf.signal("CONT");
    scene.maf.log().wait("maf.key.retrieved");
    // The answer is on its way, and the MAF is asked for nothing from here on.
    std::thread::sleep(Duration::from_millis(500));
    scene.maf.signal("STOP");
    let mut phone = Tool::OpenSsl.connect(scene.infrastructure.port(), credential);
    phone.ask(&Request::retrieve("/cse/nothing").from("Cphone")).expect_refusal(404, 4004);
    scene.maf.signal("CONT");
    assert_eq!(scene.maf.log().all(Mark::START, "maf.key.retrieved", 1).len(), 1);
}

/// Associations with two keys of one source have one Credential-ID, and each ends with its own key.
#[test]
fn expiry_of_old_key_keeps_new_key() {
    let mut settings = Settings::new();
    settings.more = "recheck-seconds = 1\ncredential-id = \"source\"".into();
    let scene = settings.start();
    let mut source = MafClient::registered(Tool::OpenSsl, &scene.maf, PHONE_KM, PHONE);
    let (old, new) = (source.key(&Wanted::USUAL), source.key(&Wanted::USUAL));
    let connect = |relative: &str| {
        let credential = Credential { identity: &identity(relative), key: KEY };
        Tool::OpenSsl.connect(scene.infrastructure.port(), credential)
    };
    let (mut with_old, mut with_new) = (connect(&old), connect(&new));
    let credential = format!("11-{PHONE}");
    let both = scene.infrastructure.log().all(Mark::START, "association.established", 2);
    assert!(both.iter().all(|event| event.text("credential_id") == credential), "{both:?}");
    source.ask(Request::delete(&format!("/~/maf/{old}"))).expect(200, 2002);
    with_old.ended();
    let nothing = Request::retrieve("/cse/nothing").from("Cphone");
    with_new.ask(&nothing).expect_refusal(404, 4004);
    // The new one is asked for again too, and goes when its turn comes.
    source.ask(Request::delete(&format!("/~/maf/{new}"))).expect(200, 2002);
    with_new.ended();
    let revoked = scene.infrastructure.log().all(Mark::START, "association.revoked", 2);
    assert_eq!(revoked.len(), 2, "{revoked:?}");
}

/// What is left of a key is measured by the time that the MAF gave, and not by what was asked for.
#[test]
fn an_ae_asks_for_no_key_while_it_has_one() {
    let mut settings = Settings::new();
    settings.maf = settings.maf.with("maf", "longest-key-seconds = 300");
    let scene = settings.start();
    let (id, km) = PHONE_KM;
    let credential = format!("kpsa-id = \"{id}\"\nkpsa = \"{km}\"\n");
    scene.write_phone(&credential, IN_CSE, "lifetime-seconds = 86400");
    scene.phone(&["register"]).expect(0);
    let key = scene.key_in_hand();
    scene.phone(&["show"]).expect(0);
    assert_eq!(scene.key_in_hand(), key);
    assert_eq!(scene.maf.log().all(Mark::START, "maf.key.registered", 1).len(), 1);
    // Nor does it take another AE's for its own.
    let file = scene.infrastructure.path("maf-key.toml");
    let others = std::fs::read_to_string(&file).unwrap().replace(PHONE, "//in.provider.com/Sb");
    std::fs::write(&file, others).unwrap();
    let ran = scene.phone(&["show"]).expect(2);
    assert!(ran.err.contains("has the key of //in.provider.com/Sb; give each AE"), "{ran:?}");
    // No time is none, and neither is one beyond all bounds.
    for seconds in ["0", "18446744073709551615", "315360001"] {
        scene.write_phone(&credential, IN_CSE, &format!("lifetime-seconds = {seconds}"));
        let ran = scene.phone(&["show"]).expect(2);
        assert!(ran.err.contains("phone.toml:"), "{ran:?}");
    }
}
