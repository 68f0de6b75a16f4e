//! Tokens that are refused, each with its Response Status Code.

use saegis_tests::{
    LIGHT1, LIGHT2, Light, Request, Setup, TokenIssuer, base64url, token_claims, unix_time,
};
use serde_json::{Value, json};

use super::lights::{GUEST, LAMP, OWNER, ask};
use super::tokens::{file_of, lamp, start, with};

/// Sends tokens of the guest and asserts that each is refused with a code and a reason. The same
/// request is refused without a token, and granted with a valid one.
#[track_caller]
fn assert_refused(tokens: impl FnOnce(&TokenIssuer) -> Vec<(String, u16, &'static str)>) {
    let issuer = TokenIssuer::new();
    let file = file_of(&issuer, "\"revoked@das\"");
    let (_gateway, _owner, mut guest) = start(Setup::new().file("token-issuers.toml", &file));
    let valid = issuer.sign(&token_claims("1@das", GUEST, &lamp()));
    ask(&mut guest, GUEST, with(Request::retrieve(LAMP), &valid)).expect(200, 2000);
    for (token, rsc, why) in tokens(&issuer) {
        let status = if rsc == 4000 { 400 } else { 403 };
        let request = with(Request::retrieve(LAMP), &token);
        let refused = ask(&mut guest, GUEST, request);
        let reason = refused.debug();
        assert!(reason.contains(why), "{reason}, not {why}: {token}");
        refused.expect_refusal(status, rsc);
    }
    // A valid token is not affected.
    ask(&mut guest, GUEST, with(Request::retrieve(LAMP), &valid)).expect(200, 2000);
}

fn claims() -> Value {
    token_claims("1@das", GUEST, &lamp())
}

/// Returns the claims with one of them replaced.
fn but(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

#[test]
fn forged_signature_is_refused() {
    assert_refused(|issuer| {
        let token = issuer.sign(&claims());
        let parts: Vec<_> = token.split('.').collect();
        let changed = base64url(but("azp", json!("//in.provider.com/mn-cse-123456/x")).to_string());
        let no_key = "that no key of its issuer verifies";
        vec![
            (TokenIssuer::new().sign(&claims()), 4103, no_key),
            (format!("{}.{changed}.{}", parts[0], parts[2]), 4103, no_key),
            (format!("{}.{}.{}", parts[0], parts[1], base64url([0; 64])), 4103, no_key),
            (format!("{}.{}.AAAA", parts[0], parts[1]), 4103, no_key),
        ]
    });
}

#[test]
fn unsigned_token_is_refused() {
    assert_refused(|issuer| {
        let token = issuer.sign(&claims());
        let rest = token.split_once('.').unwrap().1;
        let payload = rest.split_once('.').unwrap().0;
        let header = "unsupported header";
        let none = |alg: &str| base64url(json!({"alg": alg, "typ": "JWT"}).to_string());
        vec![
            (format!("{}.{payload}.", none("none")), 4103, header),
            (format!("{}.{rest}", none("none")), 4103, header),
            (format!("{}.{rest}", none("NONE")), 4103, header),
            (format!("{}.{payload}.", none("ES256")), 4000, "is not a signed token"),
            // The public key is not a secret of a MAC.
            (issuer.mac(&claims()), 4103, header),
        ]
    });
}

#[test]
fn unsupported_header_is_refused() {
    assert_refused(|issuer| {
        let sign = |header: &str| issuer.sign_text(header, &claims().to_string());
        let header = "unsupported header";
        vec![
            (sign(r#"{"alg":"ES256","crit":["exp"],"exp":1}"#), 4103, header),
            (sign(r#"{"alg":"ES256","crit":["b64"],"b64":false}"#), 4103, header),
            (sign(r#"{"alg":"ES256","jwk":{"kty":"EC"}}"#), 4103, header),
            (sign(r#"{"alg":"ES256","jku":"http://127.0.0.1:1/"}"#), 4103, header),
            (sign(r#"{"alg":"ES256","cty":"JWT"}"#), 4103, header),
            (sign(r#"{"alg":"ES256","kid":"2025"}"#), 4103, "names a key or an algorithm"),
            (sign(r#"{"alg":"ES384"}"#), 4103, "names a key or an algorithm"),
            (sign(r#"{"alg":"ES256","alg":"none"}"#), 4000, "unique names"),
            (sign("[]"), 4000, "unique names"),
        ]
    });
}

#[test]
fn token_outside_its_time_is_refused() {
    assert_refused(|issuer| {
        let now = unix_time();
        let sign = |nbf: u64, exp: u64| {
            let mut claims = but("nbf", json!(nbf));
            claims["exp"] = json!(exp);
            issuer.sign(&claims)
        };
        vec![
            (sign(now - 600, now - 1), 4103, "has expired"),
            (sign(now + 600, now + 900), 4103, "is not valid yet"),
            (sign(now - 60, now + 3600), 4103, "for longer than its issuer"),
            (sign(now + 60, now - 60), 4000, "no valid exp"),
            (issuer.sign(&but("exp", json!("2099"))), 4000, "no valid exp"),
            (issuer.sign(&but("nbf", Value::Null)), 4000, "no valid nbf"),
        ]
    });
}

#[test]
fn token_of_others_is_refused() {
    assert_refused(|issuer| {
        let sign = |name: &str, value: Value| issuer.sign(&but(name, value));
        let other = "has another holder";
        vec![
            (sign("iss", json!("other")), 4103, "has an issuer that is not in"),
            (sign("jti", json!("revoked@das")), 4103, "is revoked"),
            (sign("aud", json!(["//in.provider.com/other"])), 4103, "is not for this CSE"),
            (sign("aud", json!([])), 4103, "is not for this CSE"),
            (sign("azp", json!("//in.provider.com/mn-cse-123456/Clight-AE1")), 4103, other),
            (sign("azp", json!("//in.provider.com/mn-cse-123456/S1")), 4103, "may not name"),
            (sign("azp", json!(GUEST)), 4000, "no valid azp"),
            (sign("azp", json!("//in.provider.com/mn-cse-123456/C*")), 4000, "no valid azp"),
        ]
    });
}

#[test]
fn permission_beyond_issuer_is_refused() {
    assert_refused(|issuer| {
        let sign = |permission: Value| issuer.sign(&but("tkps", json!({"pm": [permission]})));
        let rules = json!({"acr": [{"acor": ["all"], "acop": 63}]});
        vec![
            (sign(json!({"rids": ["owner@in.provider.com"]})), 4103, "has the role owner@"),
            (sign(json!({"ris": ["cse/light2"], "pv": rules})), 4103, "privileges for cse/light2"),
            (sign(json!({"pv": rules})), 4000, "no valid tkps"),
            (sign(json!({})), 4000, "no valid tkps"),
        ]
    });
}

#[test]
fn malformed_token_is_refused() {
    assert_refused(|issuer| {
        let text = claims().to_string();
        let sign = |payload: &str| issuer.sign_text(r#"{"alg":"ES256"}"#, payload);
        let twice = text.replacen('{', r#"{"exp":99999999999,"#, 1);
        let deep = format!(r#"{{"x":{}{},{}"#, "[".repeat(20), "]".repeat(20), &text[1..]);
        let form = "is not a signed token";
        vec![
            (sign(&twice), 4000, "unique names"),
            (sign(&deep), 4000, "nested too deeply"),
            (sign("[]"), 4000, "no valid iss"),
            (sign("x"), 4000, "not JSON"),
            (sign(""), 4000, "not JSON"),
            ("token-1".into(), 4000, form),
            ("a.b".into(), 4000, form),
            ("a.b.c.d".into(), 4000, form),
            ("a.b.c.d.e".into(), 4000, form),
            ("Bearer a.b.c".into(), 4000, form),
            ("++".into(), 4000, form),
            (
                sign(&text.replacen('{', &format!(r#"{{"x":"{}","#, "a".repeat(8192)), 1)),
                4000,
                "longer",
            ),
        ]
    });
}

/// Another credential can get a learned AE-ID later, and the token with it.
#[test]
fn learned_ae_id_is_not_a_holder() {
    let issuer = TokenIssuer::new();
    let table = format!(
        "kpsa_id,kpsa,ae_id\n{},{},{OWNER}\n{},{},\n",
        LIGHT1.identity, LIGHT1.key, LIGHT2.identity, LIGHT2.key
    );
    let setup = Setup::new().file("psk-lookup-table.csv", &table);
    let (_gateway, _owner, mut guest) =
        start(setup.file("token-issuers.toml", &file_of(&issuer, "")));
    let token = issuer.sign(&claims());
    ask(&mut guest, GUEST, with(Request::retrieve(LAMP), &token)).expect_refusal(403, 4103);
}

#[test]
fn gateway_without_issuers_accepts_no_token() {
    let issuer = TokenIssuer::new();
    let (_gateway, _owner, mut guest) = start(Setup::new());
    let token = issuer.sign(&claims());
    ask(&mut guest, GUEST, with(Request::retrieve(LAMP), &token)).expect_refusal(403, 4103);
    ask(&mut guest, GUEST, Request::retrieve("/cse/light2")).expect(200, 2000);
}

/// The token of one AE is of no use to another one, not even on the association of its holder.
#[test]
fn token_does_not_allow_impersonation() {
    let issuer = TokenIssuer::new();
    let setup = Setup::new().file("token-issuers.toml", &file_of(&issuer, ""));
    let (gateway, _owner, _guest) = start(setup);
    let token = issuer.sign(&claims());
    let mut owner = Light::connect(gateway.port(), LIGHT1).unwrap();
    ask(&mut owner, GUEST, with(Request::retrieve(LAMP), &token)).expect_refusal(403, 4106);
    ask(&mut owner, OWNER, with(Request::retrieve(LAMP), &token)).expect_refusal(403, 4103);
}
