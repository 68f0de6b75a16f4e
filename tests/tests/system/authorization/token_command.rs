//! `saegis token`, and tokens of `saegis ae`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use saegis_tests::{
    Ae, CommandOutput, LIGHT2, Request, Setup, TokenIssuer, run_pyjwt, saegis, token_claims,
};
use serde_json::json;

use super::lights::{GUEST, LAMP, OWNER, ask};
use super::tokens::{FILE, file_of, lamp, start, with};

const CSE: &str = "//in.provider.com/mn-cse-123456";
const TECHNICIAN: &str = "technician@in.provider.com";

/// Issues a token of the guest with these further arguments.
fn issue(folder: &Path, arguments: &[&str]) -> CommandOutput {
    let holder = format!("{CSE}/{GUEST}");
    let common = ["token", "issue", "--key", "issuer.key", "--issuer", "das"];
    let to = ["--holder", &holder, "--cse", CSE];
    saegis(folder, &[&common[..], &to, arguments].concat())
}

#[test]
fn issued_token_is_accepted_shown_and_revoked() {
    let issuer = TokenIssuer::new();
    let setup = Setup::new().file("token-issuers.toml", &file_of(&issuer, ""));
    let (gateway, _owner, mut guest) = start(setup);
    gateway.write("issuer.key", issuer.private_pem());
    let folder = gateway.path("");
    let arguments = ["--resource", "cse/light1/lamp", "--role", TECHNICIAN, "--key-id", "2026"];
    let options = ["--id", "visit-7@das", "--operations", "retrieve,discover", "--output", "token"];
    issue(&folder, &[&arguments[..], &options].concat()).expect(0);
    let mode = fs::metadata(gateway.path("token")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let token = fs::read_to_string(gateway.path("token")).unwrap();
    for path in [LAMP, "/cse/light1/door"] {
        ask(&mut guest, GUEST, with(Request::retrieve(path), &token)).expect(200, 2000);
    }
    ask(&mut guest, GUEST, with(Request::delete(LAMP), &token)).expect_refusal(403, 4103);
    // Another implementation accepts it too.
    let asked =
        json!({"token": token, "key": issuer.public_pem(), "audience": CSE, "issuer": "das"});
    let claims = run_pyjwt(&asked).expect(0).json();
    assert_eq!(claims["jti"], "visit-7@das");
    assert_eq!(claims["azp"], format!("{CSE}/{GUEST}"));
    assert_eq!(claims["tkps"]["pm"][0]["pv"]["acr"][0]["acop"], 34);
    assert_eq!(claims["exp"].as_u64().unwrap() - claims["nbf"].as_u64().unwrap(), 3600);

    let show = ["--json", "token", "show", "token", "--config", "saegis.toml"];
    let shown = saegis(&folder, &show).expect(0).json();
    assert_eq!((&shown["accepted"], &shown["claims"]), (&json!(true), &claims));
    let signature = token.rsplit('.').next().unwrap();
    assert!(!shown.to_string().contains(signature), "the signature is printed");
    let revoked = saegis(&folder, &["token", "revoke", "visit-7@das"]).expect(0);
    assert!(revoked.out.starts_with("revoked visit-7@das: generation 2"), "{revoked:?}");
    ask(&mut guest, GUEST, with(Request::retrieve(LAMP), &token)).expect_refusal(403, 4103);
    let shown = saegis(&folder, &show).expect(4).json();
    assert_eq!((&shown["accepted"], &shown["reason"]), (&json!(false), &json!("is revoked")));
    // The file has the Token-ID once, and the rest is unchanged.
    saegis(&folder, &["token", "revoke", "visit-7@das"]).expect(0);
    let file = fs::read_to_string(gateway.path(FILE)).unwrap();
    assert_eq!(file, file_of(&issuer, "\"visit-7@das\""));
}

#[test]
fn ae_sends_tokens() {
    let issuer = TokenIssuer::new();
    let setup = Setup::new().file("token-issuers.toml", &file_of(&issuer, ""));
    let (gateway, _owner, _guest) = start(setup);
    gateway.write("lamp", issuer.sign(&token_claims("1@das", GUEST, &lamp())) + "\n");
    gateway.write("other", issuer.sign(&token_claims("2@das", OWNER, &lamp())));
    let ae = Ae::new(&gateway, GUEST, LIGHT2, "guest");
    let show = ["show", "/mn-cse-123456/cse/light1/lamp"];
    ae.run(&show).expect(4);
    ae.run(&[&["--token", "lamp"], &show[..]].concat()).expect(0);
    ae.run(&[&["--binding", "websocket", "--token", "lamp"], &show[..]].concat()).expect(0);
    let refused = ae.run(&[&["--token", "lamp", "--token", "other"], &show[..]].concat()).expect(4);
    assert!(refused.err.contains("has another holder"), "{refused:?}");
    ae.run(&[&["--token", "missing"], &show[..]].concat()).expect(2);
}

#[test]
fn invalid_arguments_are_refused() {
    let issuer = TokenIssuer::new();
    let setup = Setup::new();
    setup.write("issuer.key", issuer.private_pem().as_bytes());
    setup.write("public", issuer.public_pem().as_bytes());
    let folder = setup.path("");
    let holder = format!("{CSE}/{GUEST}");
    for (arguments, what) in [
        (&["--role", "technician"][..], "is not a Role-ID"),
        (&["--resource", "cse//x"], "empty segment"),
        (&["--role", TECHNICIAN, "--from", "tomorrow"], "is not a time"),
        (&["--role", TECHNICIAN, "--minutes", "0"], "--minutes"),
        (&["--role", TECHNICIAN, "--operations", "read"], "--operations"),
        (&[], "--role"),
        (&["--role", TECHNICIAN, "--cse", "/mn"], "is not an absolute"),
    ] {
        let refused = issue(&folder, arguments).expect(2);
        assert!(refused.err.contains(what), "{refused:?}, not {what}");
    }
    let with_public = ["token", "issue", "--key", "public", "--issuer", "das", "--holder", &holder];
    let refused =
        saegis(&folder, &[&with_public[..], &["--cse", CSE, "--role", TECHNICIAN]].concat());
    assert!(refused.expect(2).err.contains("has no private key"));
    setup.write("unsigned", b"eyJhbGciOiJub25lIn0.e30.");
    saegis(&folder, &["token", "show", "unsigned"]).expect(4);
    saegis(&folder, &["token", "show", "missing"]).expect(2);
    saegis(&folder, &["token", "revoke", "1@das"]).expect(2);
}

/// A fault of the file is not made worse, and the gateway keeps its policy.
#[test]
fn refused_revocation_changes_nothing() {
    let issuer = TokenIssuer::new();
    let setup = Setup::new().file("token-issuers.toml", &file_of(&issuer, ""));
    let (gateway, _owner, mut guest) = start(setup);
    let long = "x".repeat(300);
    saegis(&gateway.path(""), &["token", "revoke", &long]).expect(4);
    assert_eq!(fs::read_to_string(gateway.path(FILE)).unwrap(), file_of(&issuer, ""));
    let token = issuer.sign(&token_claims("1@das", GUEST, &lamp()));
    ask(&mut guest, GUEST, with(Request::retrieve(LAMP), &token)).expect(200, 2000);
}
