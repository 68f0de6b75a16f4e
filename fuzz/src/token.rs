//! Tokens.

use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use saegis_jose::{SigningKey, UnverifiedJws, read_json};
use saegis_onem2m::id::CseId;
use saegis_policy::{TokenIssuers, check_token};
use saegis_test_ca::{Key, RawKey};
use serde_json::Value;

/// The time at which tokens are checked, in seconds.
const NOW: u64 = 1_800_000_000;

/// Maximum lifetime of the tokens of the issuer, in seconds.
const MAX_LIFE: f64 = 3600.0;

/// An issuer with its private key.
struct Issuer {
    issuers: TokenIssuers,
    key: SigningKey,
}

fn issuer() -> &'static Issuer {
    static ISSUER: OnceLock<Issuer> = OnceLock::new();
    ISSUER.get_or_init(|| {
        let key = RawKey::new(Key::P256).expect("a key");
        let text = format!(
            "revoked = [\"revoked@das\"]\n[[issuer]]\nid = \"das\"\nmax-life-seconds = 3600\n\
             holders = [\"//in.provider.com/mn/*\"]\nroles = [\"technician@*\"]\n\
             resources = [\"cse/light1/*\"]\n[[issuer.key]]\nalgorithm = \"ES256\"\n\
             public = '''{}'''\n",
            key.public_pem()
        );
        let (file, cse) = (Path::new("token-issuers.toml"), CseId::parse("mn").expect("a CSE-ID"));
        let issuers = TokenIssuers::parse(file, &text, &cse, Some("in.provider.com"));
        let key = SigningKey::from_pem(key.key_pem().as_bytes()).expect("a key");
        Issuer { issuers: issuers.expect("no fault"), key }
    })
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW)
}

/// Reader of tokens. An input that no issuer signed is refused. An input that is the payload of a
/// signed token is accepted only if it is within the bounds of the issuer.
pub fn token(input: &[u8]) {
    let Issuer { issuers, key } = issuer();
    if let Ok(text) = std::str::from_utf8(input) {
        assert!(check_token(issuers, text, now()).is_err(), "an unsigned token is accepted");
        if let Ok(read) = UnverifiedJws::read(text) {
            assert!(read.verify([]).is_err(), "a token is verified without a key");
        }
    }
    let Ok(payload) = read_json(input) else { return };
    // A lenient reader reads the same.
    assert_eq!(serde_json::from_slice::<Value>(input).ok().as_ref(), Some(&payload));
    let Ok(token) = key.sign(&payload, None) else { return };
    if check_token(issuers, &token, now()).is_ok() {
        within_bounds(&payload);
    }
}

/// Asserts that the claims of an accepted token are within the bounds of its issuer.
fn within_bounds(claims: &Value) {
    assert_eq!(claims["iss"], "das");
    assert_ne!(claims["jti"], "revoked@das");
    let (from, until) = (claims["nbf"].as_f64(), claims["exp"].as_f64());
    let (from, until) = (from.expect("a time"), until.expect("a time"));
    let now = f64::from(u32::try_from(NOW).expect("it fits"));
    assert!(from <= now && now < until && until - from <= MAX_LIFE, "{from} to {until}");
    let holder = claims["azp"].as_str().expect("a holder");
    assert!(holder.starts_with("//in.provider.com/mn/"), "{holder}");
    let audience = match &claims["aud"] {
        Value::Array(all) => all.clone(),
        one => vec![one.clone()],
    };
    let is_own = |cse: &Value| {
        cse.as_str().is_some_and(|cse| cse.eq_ignore_ascii_case("//in.provider.com/mn"))
    };
    assert!(audience.iter().any(is_own), "{audience:?}");
    let permissions = claims["tkps"]["pm"].as_array().expect("a list");
    for permission in permissions {
        let roles = permission["rids"].as_array().into_iter().flatten();
        for role in roles {
            assert!(role.as_str().expect("a role").starts_with("technician@"), "{role}");
        }
        if !permission["pv"].is_null() {
            let listed = permission["ris"].as_array().expect("privileges have resources");
            let is_bounded = |address: &Value| {
                address.as_str().is_some_and(|address| address.contains("cse/light1/"))
            };
            assert!(listed.iter().all(is_bounded), "{listed:?}");
        }
    }
}
