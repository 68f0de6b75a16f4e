//! The cache of MAF keys at the IN-CSE.

use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use saegis_tests::{Credential, Light, Mark, Request, Tool};

use super::clients::{KEY, KeyRequest, MafClient, identity};
use super::scene::{IN_CSE, PHONE, PHONE_KM, Scene, Settings};

/// If a device disconnects while its key is fetched, the result is still cached.
#[test]
fn key_fetch_completes_after_client_disconnect() {
    let scene = Scene::start();
    let mut source = MafClient::registered(Tool::OpenSsl, &scene.maf, PHONE_KM, PHONE);
    let identity = identity(&source.key(&KeyRequest::USUAL));
    let credential = Credential { identity: &identity, key: KEY };
    scene.maf.signal("STOP");
    let address = (Ipv4Addr::LOCALHOST, scene.infrastructure.port());
    let disconnecting = TcpStream::connect(address).unwrap();
    assert!(Light::over(disconnecting, credential, Duration::from_millis(500)).is_err());
    scene.maf.signal("CONT");
    scene.maf.log().wait("maf.key.retrieved");
    // The response is on its way, and the MAF receives no further request.
    std::thread::sleep(Duration::from_millis(500));
    scene.maf.signal("STOP");
    let mut phone = Tool::OpenSsl.connect(scene.infrastructure.port(), credential);
    phone.ask(&Request::retrieve("/cse/nothing").from("Cphone")).expect_refusal(404, 4004);
    scene.maf.signal("CONT");
    assert_eq!(scene.maf.log().all(Mark::START, "maf.key.retrieved", 1).len(), 1);
}

/// Associations with two keys of one source share a Credential-ID, and each ends with its own key.
#[test]
fn expiry_of_old_key_keeps_new_key() {
    let mut settings = Settings::new();
    settings.more = "recheck-seconds = 1\ncredential-id = \"source\"".into();
    let scene = settings.start();
    let mut source = MafClient::registered(Tool::OpenSsl, &scene.maf, PHONE_KM, PHONE);
    let (old, new) = (source.key(&KeyRequest::USUAL), source.key(&KeyRequest::USUAL));
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
    // The new key is rechecked as well, and ends with its deletion.
    source.ask(Request::delete(&format!("/~/maf/{new}"))).expect(200, 2002);
    with_new.ended();
    let revoked = scene.infrastructure.log().all(Mark::START, "association.revoked", 2);
    assert_eq!(revoked.len(), 2, "{revoked:?}");
}

/// The remaining lifetime follows from the MAF's response, not from the requested lifetime.
#[test]
fn ae_reuses_valid_key() {
    let mut settings = Settings::new();
    settings.maf = settings.maf.with("maf", "longest-key-seconds = 300");
    let scene = settings.start();
    let (id, km) = PHONE_KM;
    let credential = format!("kpsa-id = \"{id}\"\nkpsa = \"{km}\"\n");
    scene.write_phone(&credential, IN_CSE, "lifetime-seconds = 86400");
    scene.phone(&["register"]).expect(0);
    let key = scene.phone_key();
    scene.phone(&["show"]).expect(0);
    assert_eq!(scene.phone_key(), key);
    assert_eq!(scene.maf.log().all(Mark::START, "maf.key.registered", 1).len(), 1);
    // The key of another AE is not used.
    let file = scene.infrastructure.path("maf-key.toml");
    let others = std::fs::read_to_string(&file).unwrap().replace(PHONE, "//in.provider.com/Sb");
    std::fs::write(&file, others).unwrap();
    let ran = scene.phone(&["show"]).expect(2);
    assert!(ran.err.contains("contains the key of //in.provider.com/Sb; each AE needs"), "{ran:?}");
    // The lifetime must be positive and bounded.
    for seconds in ["0", "18446744073709551615", "315360001"] {
        scene.write_phone(&credential, IN_CSE, &format!("lifetime-seconds = {seconds}"));
        let ran = scene.phone(&["show"]).expect(2);
        assert!(ran.err.contains("phone.toml:"), "{ran:?}");
    }
}
