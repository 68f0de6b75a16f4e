//! Acknowledged keys survive the end of the process.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test")]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use saegis_maf::client::{
    Client, KeyTerms, Terms, read_registered_key, read_registration, read_retrieved_key,
};
use saegis_maf::{Caller, Maf, Settings, StoreKey, names};
use saegis_onem2m::credential::PresharedKey;
use saegis_onem2m::id::{AbsoluteId, CredentialId};

const FQDN: &str = "maf.provider.com";
const STORE: &str = "SAEGIS_TEST_MAF_STORE";
/// Minimum number of keys that are acknowledged before the process is killed.
const KEYS: usize = 40;

fn open(path: &Path) -> Maf {
    Maf::open(path, &StoreKey::new(&[1; 32]), Settings::new(FQDN).unwrap()).unwrap()
}

fn source() -> AbsoluteId {
    AbsoluteId::parse("//in.provider.com/mn-1/Clight").unwrap()
}

fn caller() -> Caller<'static> {
    let credential_id = CredentialId::parse("11-light@maf.provider.com").unwrap();
    Caller { id: source(), credential_id, exported: None }
}

/// The process that is killed, not a test: it registers keys and prints each acknowledged one.
#[test]
fn registers_keys_until_it_is_killed() {
    let Some(path) = std::env::var_os(STORE) else { return };
    let maf = open(Path::new(&path));
    let client = Client::new(source(), FQDN, names::default_base()).unwrap();
    let now = SystemTime::now();
    let terms = Terms::until(now + Duration::from_secs(3600), "in.provider.com");
    let registered = maf.handle(&caller(), &client.register("1", &terms).unwrap(), None, now);
    read_registration(&registered).unwrap();
    let wanted = KeyTerms { terms, suid: 32, targets: vec![source()] };
    for n in 0_u8.. {
        let key = PresharedKey::new(&[n, 1, 2, 4].repeat(8)).unwrap();
        let request = client.register_key("2", &wanted, Some(&key)).unwrap();
        let allowed = maf.asks(&source(), &request, now);
        let answer = maf.handle(&caller(), &request, allowed.as_ref(), now);
        let made = read_registered_key(&answer, None).unwrap();
        println!("acknowledged {} {n}", made.relative_key_id);
        std::io::stdout().flush().unwrap();
    }
}

#[test]
fn acknowledged_keys_survive_kill() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("maf");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "registers_keys_until_it_is_killed", "--nocapture", "--test-threads=1"])
        .env(STORE, &path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut acknowledged = Vec::new();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for line in lines.by_ref() {
        let line = line.unwrap();
        // The test harness prints text before the first line.
        if let Some((_, said)) = line.split_once("acknowledged ") {
            let (id, n) = said.split_once(' ').unwrap();
            acknowledged.push((id.to_owned(), n.parse::<u8>().unwrap()));
        }
        if acknowledged.len() == KEYS {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(acknowledged.len() >= KEYS);

    let maf = open(&path);
    let client = Client::new(source(), FQDN, names::default_base()).unwrap();
    for (id, n) in acknowledged {
        let request = client.retrieve_key("3", &id).unwrap();
        let answer = maf.handle(&caller(), &request, None, SystemTime::now());
        assert_eq!(read_retrieved_key(&answer).ok().unwrap().key.expose(), [n, 1, 2, 4].repeat(8));
    }
}
