//! `config`: values and secrets of one module.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use saegis_tests::Setup;

use super::probe::{assert_outcome, outcome, setup};

const SECRET: &str = "s3cr3t-of-the-suite";

fn with_secret(mode: u32) -> Setup {
    let setup = setup(&["http://127.0.0.1:1".into()], "")
        .with("modules.config.io-probe", "secrets = { token = \"token\" }");
    fs::write(setup.path("token"), format!("{SECRET}\n")).unwrap();
    fs::set_permissions(setup.path("token"), Permissions::from_mode(mode)).unwrap();
    setup
}

#[test]
fn secrets_are_readable_by_their_module_only() {
    let gateway = with_secret(0o600).with("decisions", "record = \"decisions.jsonl\"").start();
    assert_outcome(&gateway, "config|color", "Ok(Some(\"green\"))");
    assert_outcome(&gateway, "config|other", "Ok(None)");
    let before = gateway.log().text();
    assert_outcome(&gateway, "config", "(\"color\", \"green\"), (\"token\",");
    // The probe returned the secret as its reason, which is in the log but not in the recording.
    assert!(!before.contains(SECRET) && !gateway.printed().contains(SECRET));
    let recorded = fs::read_to_string(gateway.path("decisions.jsonl")).unwrap_or_default();
    assert!(!recorded.contains(SECRET), "{recorded}");
}

#[test]
fn changed_secret_creates_generation() {
    let gateway = with_secret(0o600).start();
    assert_outcome(&gateway, "config|token", SECRET);
    let event = gateway.in_force_after(|g| g.write("token", "another"));
    assert_eq!(event.number("generation"), 2);
    gateway.refused_after("token: is a secret that every user of the machine can read", |g| {
        fs::set_permissions(g.path("token"), Permissions::from_mode(0o644)).unwrap();
        fs::write(g.path("token"), "a third").unwrap();
    });
    let event = gateway.in_force_after(|g| {
        fs::set_permissions(g.path("token"), Permissions::from_mode(0o600)).unwrap();
        fs::write(g.path("token"), "a third one").unwrap();
    });
    assert_eq!(event.number("generation"), 3);
    let value = outcome(&gateway, "config|token");
    assert!(value.contains("Ok(Some(\"a third one\"))"), "{value}");
    gateway.refused_after("token: cannot be opened", |g| fs::remove_file(g.path("token")).unwrap());
}

#[test]
fn world_readable_secret_prevents_start() {
    let refused = with_secret(0o644).run_until_exit().expect(2);
    let why = "token: is a secret that every user of the machine can read; chmod 600";
    assert!(refused.err.contains(why), "{refused:?}");
    assert!(!refused.err.contains(SECRET), "{refused:?}");
}
