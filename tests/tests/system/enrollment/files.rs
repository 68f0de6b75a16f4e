//! Files of the certification authority, and the configuration.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, SystemTime};

use saegis_test_ca::{Authority, Request as CaRequest, Validity};
use saegis_tests::certificates::Pki;
use saegis_tests::{Setup, saegis};

use super::scene::setup;

const HOUR: Duration = Duration::from_secs(3600);

/// Asserts that a MEF does not start, and that `saegis check` gives the same reason.
#[track_caller]
fn does_not_start(why: &str, change: impl FnOnce(Setup) -> Setup) {
    let pki = Pki::new();
    let setup = change(setup(&pki, &pki.example.ae_authority).0);
    let stopped = setup.run_until_exit();
    assert_eq!(stopped.code, 2, "{stopped:?}");
    assert!(stopped.err.contains(why), "{why}: {stopped:?}");
    let configuration = setup.configuration();
    let checked = saegis(&setup.path(""), &["check", "--config", configuration.to_str().unwrap()]);
    assert_eq!(checked.code, 2, "{checked:?}");
    assert!(checked.err.contains(why), "{why}: {checked:?}");
}

#[test]
fn unusable_authority_stops_the_start() {
    let now = SystemTime::now();
    let past = Validity { from: now - 2 * HOUR, until: now - HOUR };
    let expired = Authority::new(&CaRequest::new("AEs").valid(past)).unwrap();
    does_not_start("has expired", |setup| {
        setup.write("ca.pem", expired.pem().as_bytes());
        setup.write("ca.key", expired.key_pem().as_bytes());
        setup
    });
    does_not_start("the key does not belong to the certificate", |setup| {
        setup.write("ca.key", Authority::new(&CaRequest::new("AEs")).unwrap().key_pem().as_bytes());
        setup
    });
    let leaf = Authority::new(&CaRequest::new("x").without_authority()).unwrap();
    does_not_start("not the certificate of a certification authority", |setup| {
        setup.write("ca.pem", leaf.pem().as_bytes());
        setup.write("ca.key", leaf.key_pem().as_bytes());
        setup
    });
    does_not_start("has no certificate in it", |setup| {
        setup.write("ca.pem", b"nothing");
        setup
    });
    does_not_start("there is no such file", |setup| {
        fs::remove_file(setup.path("ca.key")).unwrap();
        setup
    });
    does_not_start("is a private key that every user of the machine can read", |setup| {
        fs::set_permissions(setup.path("ca.key"), Permissions::from_mode(0o644)).unwrap();
        setup
    });
}

#[test]
fn invalid_settings_stop_the_start() {
    does_not_start("mef.est.lifetime-days: must be from 1 to 3650", |setup| {
        setup.with("mef.est", "lifetime-days = 0")
    });
    does_not_start("mef.est.requests-per-hour: must be from 1", |setup| {
        setup.with("mef.est", "requests-per-hour = 0")
    });
    let with_names = |names: &str| {
        let lines =
            format!("ca-certificate = \"ca.pem\"\nca-key = \"ca.key\"\nallowed-names = {names}");
        move |setup: Setup| setup.without("mef.est").with("mef.est", &lines)
    };
    does_not_start("mef.est.allowed-names: is empty", with_names("[]"));
    does_not_start("one * at its end", with_names("[\"*\"]"));
    does_not_start("est", |setup| setup.without("mef.est"));
    does_not_start("either a MAF or a MEF", |setup| {
        setup.with("maf", "fqdn = \"maf.in.provider.com\"")
    });
}

/// The other commands name the right one.
#[test]
fn configuration_of_mef_is_for_its_command() {
    let pki = Pki::new();
    let setup = setup(&pki, &pki.example.ae_authority).0;
    let configuration = setup.configuration();
    let configuration = configuration.to_str().unwrap();
    let run = |verb: &str| saegis(&setup.path(""), &[verb, "--config", configuration]);
    assert!(run("run").expect(2).err.contains("run it with saegis mef"));
    assert!(run("maf").expect(2).err.contains("[maf] is missing"));
    run("check").expect(0);
}
