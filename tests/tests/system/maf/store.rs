//! The store of the MAF and its encryption key.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use saegis_tests::{CommandOutput, Gateway, Setup, Tool, saegis};

use super::clients::{KEY, KeyRequest, MafClient};
use super::scene::{FQDN, IN_CSE, IN_KM, PHONE, PHONE_KM, Settings};

/// The current encryption key, and a new one.
const OLD: [u8; 32] = alternating_key(0x5e, 0x5f);
const NEW: [u8; 32] = alternating_key(0x60, 0x61);

/// Returns a key of two alternating bytes.
const fn alternating_key(one: u8, other: u8) -> [u8; 32] {
    let mut key = [one; 32];
    let mut at = 1;
    while at < key.len() {
        key[at] = other;
        at += 2;
    }
    key
}

fn digits(key: [u8; 32]) -> String {
    key.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn write(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Asserts that the MAF of a folder does not start.
#[track_caller]
fn assert_does_not_start(folder: &Path, names: &str, why: &str) {
    let ran = saegis(folder, &["maf", "--config", "saegis.toml"]).expect(2);
    assert!(ran.err.contains(names) && ran.err.contains(why), "{ran:?}");
    for key in [OLD, NEW] {
        assert!(!ran.err.contains(&digits(key)) && !ran.out.contains(&digits(key)), "{ran:?}");
    }
}

fn reencrypt(folder: &Path) -> CommandOutput {
    saegis(folder, &["maf", "--config", "saegis.toml", "--reencrypt", "new.key"])
}

/// Returns a stopped MAF with a key in its store.
fn stopped_maf() -> (Gateway, String) {
    let mut maf = Settings::new().maf.start();
    let mut phone = MafClient::registered(Tool::OpenSsl, &maf, PHONE_KM, PHONE);
    MafClient::registered(Tool::OpenSsl, &maf, IN_KM, IN_CSE);
    let relative = phone.key(&KeyRequest::USUAL);
    drop(phone);
    maf.stop();
    (maf, relative)
}

#[track_caller]
fn retrieve(maf: &Gateway, relative: &str) {
    let mut in_cse = MafClient::connect(Tool::GnuTls, maf, IN_KM, IN_CSE);
    let found = in_cse.retrieve(relative).expect(200, 2000).json();
    assert_eq!(found["sec:symmKeyReg"]["keyValue"].as_str().unwrap().to_lowercase(), KEY);
}

#[test]
fn store_opens_with_its_own_key_only() {
    let (maf, relative) = stopped_maf();
    let (folder, file) = (maf.path(""), maf.path("store.key"));
    write(&file, &digits(NEW), 0o600);
    assert_does_not_start(&folder, "maf.redb", "with another key");
    write(&file, "5f5f", 0o600);
    assert_does_not_start(&folder, "store.key", "32 bytes");
    write(&file, &digits(OLD), 0o644);
    assert_does_not_start(&folder, "store.key", "every user of the machine can read");
    fs::remove_file(&file).unwrap();
    assert_does_not_start(&folder, "store.key", "cannot be opened");
    // The same key in base64. The store is unchanged.
    write(&file, "Xl9eX15fXl9eX15fXl9eX15fXl9eX15fXl9eX15fXl8=\n", 0o600);
    let maf = maf.start_in_same_folder();
    retrieve(&maf, &relative);
}

#[test]
fn store_is_reencrypted_with_new_key() {
    let (maf, relative) = stopped_maf();
    let (folder, file) = (maf.path(""), maf.path("store.key"));
    // An invalid or readable key file is refused.
    for (text, mode) in [("x", 0o600), (&*digits(NEW), 0o644)] {
        write(&maf.path("new.key"), text, mode);
        let ran = reencrypt(&folder).expect(2);
        assert!(ran.err.contains("new.key"), "{ran:?}");
    }
    write(&maf.path("new.key"), &digits(NEW), 0o600);
    // The old key is required.
    write(&file, &digits(alternating_key(7, 8)), 0o600);
    let ran = reencrypt(&folder).expect(2);
    assert!(ran.err.contains("maf.redb"), "{ran:?}");
    write(&file, &digits(OLD), 0o600);
    reencrypt(&folder).expect(0);
    assert_does_not_start(&folder, "maf.redb", "with another key");
    write(&file, &digits(NEW), 0o600);
    let mut maf = maf.start_in_same_folder();
    retrieve(&maf, &relative);
    // The command fails while the MAF runs.
    let ran = reencrypt(&folder).expect(2);
    assert!(ran.err.contains("maf.redb"), "{ran:?}");
    assert!(maf.runs());
    retrieve(&maf, &relative);
}

#[test]
fn missing_store_key_is_refused() {
    let setup = Setup::maf(FQDN);
    let text = fs::read_to_string(setup.configuration()).unwrap();
    let without = text.replace("store-key-file = \"store.key\"\n", "");
    assert_ne!(text, without);
    setup.write("saegis.toml", without.as_bytes());
    assert_does_not_start(&setup.path(""), "SAEGIS_MAF_STORE_KEY", "is not set");
    assert!(!setup.path("state/maf.redb").exists(), "the store exists without a key");
}
