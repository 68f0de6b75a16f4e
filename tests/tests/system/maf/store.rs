//! The MAF's store, and the key that it is written under.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use saegis_tests::{CommandOutput, Gateway, Setup, Tool, saegis};

use super::clients::{KEY, MafClient, Wanted};
use super::scene::{FQDN, IN_CSE, IN_KM, PHONE, PHONE_KM, Settings};

/// The key that a store is written under, and others.
const OLD: [u8; 32] = of_two(0x5e, 0x5f);
const NEW: [u8; 32] = of_two(0x60, 0x61);

/// A key that is not one byte over and over.
const fn of_two(one: u8, other: u8) -> [u8; 32] {
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

/// Tries to start the MAF of a folder, which must not work.
#[track_caller]
fn does_not_start(folder: &Path, names: &str, why: &str) {
    let ran = saegis(folder, &["maf", "--config", "saegis.toml"]).expect(2);
    assert!(ran.err.contains(names) && ran.err.contains(why), "{ran:?}");
    for key in [OLD, NEW] {
        assert!(!ran.err.contains(&digits(key)) && !ran.out.contains(&digits(key)), "{ran:?}");
    }
}

fn reencrypt(folder: &Path) -> CommandOutput {
    saegis(folder, &["maf", "--config", "saegis.toml", "--reencrypt", "new.key"])
}

/// A MAF with a key in its store, which has ended.
fn ended() -> (Gateway, String) {
    let mut maf = Settings::new().maf.start();
    let mut phone = MafClient::registered(Tool::OpenSsl, &maf, PHONE_KM, PHONE);
    MafClient::registered(Tool::OpenSsl, &maf, IN_KM, IN_CSE);
    let relative = phone.key(&Wanted::USUAL);
    drop(phone);
    maf.stop();
    (maf, relative)
}

#[track_caller]
fn retrieve(maf: &Gateway, relative: &str) {
    let mut in_cse = MafClient::connect(Tool::GnuTls, maf, IN_KM, IN_CSE);
    let found = in_cse.retrieve(relative).expect(200, 2000).json();
    assert_eq!(found["maf:keyReg"]["kval"].as_str().unwrap().to_lowercase(), KEY);
}

#[test]
fn a_store_opens_with_its_own_key_only() {
    let (maf, relative) = ended();
    let (folder, file) = (maf.path(""), maf.path("store.key"));
    write(&file, &digits(NEW), 0o600);
    does_not_start(&folder, "maf.redb", "under another key");
    write(&file, "5f5f", 0o600);
    does_not_start(&folder, "store.key", "32 bytes");
    write(&file, &digits(OLD), 0o644);
    does_not_start(&folder, "store.key", "every user of the machine may read");
    fs::remove_file(&file).unwrap();
    does_not_start(&folder, "store.key", "can't be opened");
    // In base64 it is the same, and nothing has happened to the store.
    write(&file, "Xl9eX15fXl9eX15fXl9eX15fXl9eX15fXl9eX15fXl8=\n", 0o600);
    let maf = maf.start_in_same_folder();
    retrieve(&maf, &relative);
}

#[test]
fn a_store_gets_another_key() {
    let (maf, relative) = ended();
    let (folder, file) = (maf.path(""), maf.path("store.key"));
    // Not by a key that is none, or that others can read.
    for (text, mode) in [("x", 0o600), (&*digits(NEW), 0o644)] {
        write(&maf.path("new.key"), text, mode);
        let ran = reencrypt(&folder).expect(2);
        assert!(ran.err.contains("new.key"), "{ran:?}");
    }
    write(&maf.path("new.key"), &digits(NEW), 0o600);
    // Nor by who does not have the old one.
    write(&file, &digits(of_two(7, 8)), 0o600);
    let ran = reencrypt(&folder).expect(2);
    assert!(ran.err.contains("maf.redb"), "{ran:?}");
    write(&file, &digits(OLD), 0o600);
    reencrypt(&folder).expect(0);
    does_not_start(&folder, "maf.redb", "under another key");
    write(&file, &digits(NEW), 0o600);
    let mut maf = maf.start_in_same_folder();
    retrieve(&maf, &relative);
    // While it runs, its store is its own.
    let ran = reencrypt(&folder).expect(2);
    assert!(ran.err.contains("maf.redb"), "{ran:?}");
    assert!(maf.runs());
    retrieve(&maf, &relative);
}

#[test]
fn a_store_key_must_be_there() {
    let setup = Setup::maf(FQDN);
    let text = fs::read_to_string(setup.configuration()).unwrap();
    let without = text.replace("store-key-file = \"store.key\"\n", "");
    assert_ne!(text, without);
    setup.write("saegis.toml", without.as_bytes());
    does_not_start(&setup.path(""), "SAEGIS_MAF_STORE_KEY", "is not set");
    assert!(!setup.path("state/maf.redb").exists(), "there is a store without a key");
}
