use std::path::Path;

use proptest::prelude::*;
use saegis_jose::SigningKey;
use saegis_onem2m::id::CseId;
use saegis_test_ca::{Key, RawKey};
use serde_json::json;

use super::*;

const HOLDER: &str = "//in.provider.com/mn/Cservice";

/// An issuer with its private key.
struct Bench {
    issuers: TokenIssuers,
    key: SigningKey,
}

fn bench() -> Bench {
    let key = RawKey::new(Key::P256).unwrap();
    let text = format!(
        "revoked = [\"9@das\"]\n[[issuer]]\nid = \"das\"\nmax-life-seconds = 100\n\
         holders = [\"//in.provider.com/*\"]\nroles = [\"technician@*\"]\n\
         resources = [\"cse/light1/*\"]\n[[issuer.key]]\nid = \"2026\"\nalgorithm = \"ES256\"\n\
         public = '''{}'''\n",
        key.public_pem()
    );
    let cse = CseId::parse("mn").unwrap();
    let file = Path::new("token-issuers.toml");
    let issuers = TokenIssuers::parse(file, &text, &cse, Some("in.provider.com")).unwrap();
    Bench { issuers, key: SigningKey::from_pem(key.key_pem().as_bytes()).unwrap() }
}

fn claims() -> Value {
    json!({
        "iss": "das", "jti": "1@das", "azp": HOLDER, "aud": ["//in.provider.com/mn"],
        "nbf": 1000, "exp": 1100, "tkvr": "1.0.0", "iat": 1000,
        "tkps": {"pm": [
            {"ris": ["cse/light1/lamp"], "pv": {"acr": [{"acor": ["all"], "acop": 2}]}},
            {"rids": ["technician@in.provider.com"]},
        ]},
    })
}

impl Bench {
    fn verify(&self, claims: &Value) -> Result<Token, TokenError> {
        verify(&self.issuers, &self.key.sign(claims, Some("2026")).unwrap())
    }

    /// Verifies a token in which one claim is changed, or removed if it is null.
    fn with(&self, name: &str, value: &Value) -> Result<(), TokenError> {
        let mut claims = claims();
        match value.is_null() {
            true => drop(claims.as_object_mut().unwrap().remove(name)),
            false => claims[name] = value.clone(),
        }
        self.verify(&claims).map(|_| ())
    }
}

#[test]
fn permissions_of_token_are_read() {
    let token = bench().verify(&claims()).unwrap();
    let VerifiedToken { issuer, id, permissions } = &token.verified;
    assert_eq!((&**issuer, &**id, permissions.len()), ("das", "1@das", 2));
    let [listed, general] = &permissions[..] else { panic!("{permissions:?}") };
    assert_eq!(listed.resources.as_deref(), Some(&["cse/light1/lamp".to_owned()][..]));
    assert!(listed.rules.is_some() && listed.roles.is_empty());
    assert!(general.resources.is_none() && general.rules.is_none());
    assert_eq!(general.roles, [RoleId::parse("technician@in.provider.com").unwrap()]);
}

#[test]
fn times_and_holder_are_compared() {
    let token = bench().verify(&claims()).unwrap();
    let at = |seconds: f64| UNIX_EPOCH + Duration::from_secs_f64(seconds);
    for (seconds, expected) in [
        (999.9, Err(TokenError::NotYetValid)),
        (1000.0, Ok(())),
        (1099.9, Ok(())),
        (1100.0, Err(TokenError::Expired)),
    ] {
        assert_eq!(token.check("/mn/Cservice", at(seconds)), expected, "{seconds}");
    }
    for other in ["/mn/Cservice2", "/mn/C", "/mn", "/Cservice", "//other.com/mn/Cservice", ""] {
        assert_eq!(token.check(other, at(1000.0)), Err(TokenError::Holder), "{other}");
    }
}

#[test]
fn claim_out_of_bounds_is_refused() {
    let bench = bench();
    let lamp = json!({"acr": []});
    let pm = |permission: Value| json!({ "pm": [permission] });
    let claim = |name| TokenError::Claim(name);
    for (name, value, error) in [
        ("iss", json!("other"), TokenError::Issuer),
        ("jti", json!("9@das"), TokenError::Revoked),
        ("aud", json!("//in.provider.com/other"), TokenError::Audience),
        ("aud", json!(["//in.provider.com/*", "/mn", "//other.com/mn"]), TokenError::Audience),
        ("aud", json!([]), TokenError::Audience),
        ("exp", json!(1101), TokenError::Lifetime),
        ("nbf", json!(0), TokenError::Lifetime),
        ("nbf", json!(1101), claim("exp")),
        ("azp", json!("//other.com/mn/Cservice"), TokenError::HolderOfIssuer),
        (
            "tkps",
            pm(json!({"rids": ["tenant@in.provider.com"]})),
            TokenError::Role(RoleId::parse("tenant@in.provider.com").unwrap()),
        ),
        (
            "tkps",
            pm(json!({"ris": ["cse/light1/lamp", "cse/light2/lamp"], "pv": lamp})),
            TokenError::Resource("cse/light2/lamp".into()),
        ),
        (
            "tkps",
            pm(json!({"ris": ["/mn/cse/light2/lamp"], "pv": lamp})),
            TokenError::Resource("cse/light2/lamp".into()),
        ),
    ] {
        assert_eq!(bench.with(name, &value), Err(error), "{name} {value}");
    }
    // Other forms of the same.
    for (name, value) in [
        ("aud", json!("//IN.provider.com/mn")),
        ("aud", json!(["//x/y", "//in.provider.com/mn"])),
        ("exp", json!(1099.5)),
        ("tkps", pm(json!({"ris": ["//in.provider.com/mn/cse/light1/lamp"], "pv": lamp}))),
        ("tkps", pm(json!({"ris": ["cse/light2"], "rids": ["technician@a.b"]}))),
    ] {
        assert_eq!(bench.with(name, &value), Ok(()), "{name} {value}");
    }
}

#[test]
fn malformed_claim_is_refused() {
    let bench = bench();
    let rules = json!({"acr": []});
    let pm = |permission: Value| json!({ "pm": [permission] });
    for (name, values) in [
        ("iss", vec![json!(1), json!(""), json!("a b")]),
        ("jti", vec![json!([]), json!("a".repeat(257))]),
        ("azp", vec![json!("Cservice"), json!("/mn/Cservice"), json!("//in.provider.com/mn/C*")]),
        ("aud", vec![json!(1), json!([1]), json!({})]),
        ("nbf", vec![json!("1000"), json!(-1), json!(1e300)]),
        ("exp", vec![json!(true), json!(1e18)]),
        (
            "tkps",
            vec![
                json!([]),
                json!([[]]),
                json!({"pm": []}),
                json!({"pm": {}}),
                json!({"pm": [[["cse/light1/lamp"], {"acr": []}, null]]}),
                json!({"pm": vec![json!({"rids": ["technician@a.b"]}); 17]}),
                pm(json!({})),
                pm(json!({"rids": []})),
                pm(json!({"pv": rules})),
                pm(json!({"ris": ["cse/light1/lamp"]})),
                pm(json!({"ris": ["cse/light1/lamp"], "pv": []})),
                pm(json!({"ris": ["cse/light1/../x"], "pv": rules})),
                pm(json!({"ris": ["/other/cse/light1/lamp"], "pv": rules})),
                pm(json!({"ris": vec!["cse/light1/lamp"; 33], "pv": rules})),
                pm(json!({"rids": ["technician"]})),
                pm(json!({"rids": ["technician@a.b"], "x": 1})),
            ],
        ),
    ] {
        for value in values.iter().chain([&Value::Null]) {
            let error = bench.with(name, value).unwrap_err();
            assert_eq!(error, TokenError::Claim(name), "{name} {value}");
            assert!(error.is_malformed());
        }
    }
}

#[test]
fn signature_of_another_key_is_refused() {
    let (one, other) = (bench(), bench());
    let token = other.key.sign(&claims(), Some("2026")).unwrap();
    let error = verify(&one.issuers, &token).unwrap_err();
    assert_eq!((error.is_malformed(), &error), (false, &JwsError::Signature.into()));
    let token = one.key.sign(&claims(), Some("2025")).unwrap();
    let error = verify(&one.issuers, &token).unwrap_err();
    assert_eq!((error.is_malformed(), &error), (false, &JwsError::Key.into()));
    assert!(verify(&one.issuers, &one.key.sign(&claims(), None).unwrap()).is_ok());
}

proptest! {
    /// A token never gives more than its issuer may give.
    #[test]
    fn permissions_stay_within_bounds(
        roles in proptest::collection::vec("(technician|tenant)@[a-z]{1,3}", 0..3),
        resources in proptest::collection::vec("cse/light[12](/[a-z]{1,4})?", 0..3),
        has_rules: bool,
    ) {
        let mut permission = json!({"rids": roles});
        if has_rules {
            permission["pv"] = json!({"acr": []});
        }
        if !resources.is_empty() {
            permission["ris"] = json!(resources);
        }
        let mut claims = claims();
        claims["tkps"] = json!({"pm": [permission]});
        if let Ok(token) = bench().verify(&claims) {
            for permission in &*token.verified.permissions {
                let is_bounded = |role: &RoleId| role.as_str().starts_with("technician@");
                prop_assert!(permission.roles.iter().all(is_bounded));
                let listed = permission.resources.iter().flatten();
                let mut given = listed.filter(|_| permission.rules.is_some());
                prop_assert!(given.all(|address| address.starts_with("cse/light1/")));
            }
        }
    }
}
