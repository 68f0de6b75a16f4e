use jsonwebtoken::{EncodingKey, Header, encode};
use proptest::prelude::*;
use saegis_test_ca::{Key, RawKey};
use serde_json::{Value, json};

use super::*;
use crate::key::KeyError;
use crate::signing::{SigningError, SigningKey};

fn key(kind: Key) -> (RawKey, VerificationKey) {
    let key = RawKey::new(kind).unwrap();
    let public = VerificationKey::parse(&key.public_pem()).unwrap().with_id("2026");
    (key, public)
}

fn signed(key: &RawKey, algorithm: jsonwebtoken::Algorithm, claims: &Value) -> String {
    let header = Header { kid: Some("2026".into()), ..Header::new(algorithm) };
    let key = EncodingKey::from_ec_der(key.key_der().secret_der());
    encode(&header, claims, &key).unwrap()
}

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

#[test]
fn signature_is_verified_by_keys_of_its_algorithm() {
    let (one, public) = key(Key::P256);
    let (_, other) = key(Key::P256);
    let (large, large_public) = key(Key::P384);
    let claims = json!({"iss": "das.in.provider.com"});
    let token = signed(&one, jsonwebtoken::Algorithm::ES256, &claims);
    let read = || UnverifiedJws::read(&token).unwrap();
    assert_eq!(read().key_id(), Some("2026"));
    let payload = read().verify([&other, &large_public, &public]).unwrap();
    assert_eq!(payload, claims);
    assert_eq!(read().verify([&other, &large_public]), Err(JwsError::Signature));
    assert_eq!(read().verify([&large_public]), Err(JwsError::Key));
    assert_eq!(read().verify([]), Err(JwsError::Key));
    let token = signed(&large, jsonwebtoken::Algorithm::ES384, &claims);
    assert!(UnverifiedJws::read(&token).unwrap().verify([&public, &large_public]).is_ok());
    assert!(UnverifiedJws::read(&token).unwrap().verify([&public]).is_err());
}

#[test]
fn changed_token_is_refused() {
    let (one, public) = key(Key::P256);
    let token = signed(&one, jsonwebtoken::Algorithm::ES256, &json!({"iss": "a"}));
    let parts: Vec<_> = token.split('.').collect();
    let other = part(&json!({"iss": "b"}));
    let padded = format!("{}=", parts[2]);
    for (changed, error) in [
        (format!("{}.{other}.{}", parts[0], parts[2]), JwsError::Signature),
        (format!("{}.{}.{other}", parts[0], parts[1]), JwsError::Signature),
        (format!("{}.{}.{padded}", parts[0], parts[1]), JwsError::Form),
        (format!("{}.{}.", parts[0], parts[1]), JwsError::Form),
        (format!("{}.{}", parts[0], parts[1]), JwsError::Form),
        (format!("{token}.x"), JwsError::Form),
        (format!(".{token}"), JwsError::Form),
        (format!("{token} "), JwsError::Form),
        (String::new(), JwsError::Form),
        (format!("é.{}.{}", parts[1], parts[2]), JwsError::Form),
        ("a".repeat(MAX_JWS + 1), JwsError::TooLong),
    ] {
        let verified = UnverifiedJws::read(&changed).and_then(|read| read.verify([&public]));
        assert_eq!(verified, Err(error), "{changed}");
    }
}

/// The header cannot choose an unsigned token, another key, or a meaning that is not known.
#[test]
fn unsupported_header_is_refused() {
    let payload = part(&json!({"iss": "a"}));
    for header in [
        json!({"alg": "none"}),
        json!({"alg": "None", "typ": "JWT"}),
        json!({"alg": ""}),
        json!({"typ": "JWT"}),
        json!({"alg": "HS256"}),
        json!({"alg": "RS256"}),
        json!({"alg": "es256"}),
        json!({"alg": ["ES256"]}),
        json!({"alg": "ES256", "typ": "JOSE"}),
        json!({"alg": "ES256", "crit": ["exp"]}),
        json!({"alg": "ES256", "jwk": {"kty": "EC"}}),
        json!({"alg": "ES256", "jku": "https://a.b"}),
        json!({"alg": "ES256", "x5c": []}),
        json!({"alg": "ES256", "b64": false}),
        json!({"alg": "ES256", "cty": "JWT"}),
    ] {
        let token = format!("{}.{payload}.AAAA", part(&header));
        let read = UnverifiedJws::read(&token).map(|_| ());
        assert_eq!(read, Err(JwsError::Header), "{header}");
    }
    for text in [r#"{"alg":"ES256","alg":"ES256"}"#, "[]", "[\"ES256\"]", "\"ES256\"", "{"] {
        let header = URL_SAFE_NO_PAD.encode(text);
        let read = UnverifiedJws::read(&format!("{header}.{payload}.AAAA")).map(|_| ());
        assert_eq!(read, Err(JwsError::Json), "{text}");
    }
    // An unsecured JWT has an empty signature.
    let token = format!("{}.{payload}.", part(&json!({"alg": "none"})));
    assert_eq!(UnverifiedJws::read(&token).map(|_| ()), Err(JwsError::Header));
}

#[test]
fn key_must_be_one_public_key_of_a_curve() {
    let (one, _) = key(Key::P256);
    let pem = one.public_pem();
    assert_eq!(VerificationKey::parse(&pem).unwrap().algorithm(), Algorithm::Es256);
    for bad in ["", "key", &pem.repeat(2), &one.key_pem(), &pem[..60]] {
        assert_eq!(VerificationKey::parse(bad).err(), Some(KeyError::NoPublicKey), "{bad}");
    }
}

#[test]
fn jwk_is_a_public_key() {
    let (one, _) = key(Key::P256);
    let point = one.public_der()[27..].to_vec();
    let coordinate = |at: usize| URL_SAFE_NO_PAD.encode(&point[at..at + 32]);
    let jwk = json!({"kty": "EC", "crv": "P-256", "x": coordinate(0), "y": coordinate(32),
        "kid": "2026"});
    let public = VerificationKey::parse(&jwk.to_string()).unwrap();
    assert_eq!(public.id(), Some("2026"));
    let token = signed(&one, jsonwebtoken::Algorithm::ES256, &json!({"iss": "a"}));
    assert!(UnverifiedJws::read(&token).unwrap().verify([&public]).is_ok());
    for (name, value, error) in [
        ("kty", json!("oct"), KeyError::Kind),
        ("kty", Value::Null, KeyError::NoPublicKey),
        ("crv", json!("P-521"), KeyError::Kind),
        ("x", json!("AAAA"), KeyError::NoPublicKey),
        ("y", Value::Null, KeyError::NoPublicKey),
        ("d", json!("AAAA"), KeyError::NoPublicKey),
    ] {
        let mut jwk = jwk.clone();
        jwk[name] = value;
        assert_eq!(VerificationKey::parse(&jwk.to_string()).err(), Some(error), "{name}");
    }
}

#[test]
fn signed_token_is_verified() {
    for (kind, algorithm) in [(Key::P256, Algorithm::Es256), (Key::P384, Algorithm::Es384)] {
        let (one, public) = key(kind);
        let private = SigningKey::from_pem(one.key_pem().as_bytes()).unwrap();
        assert_eq!(private.algorithm(), algorithm);
        let claims = json!({"iss": "a", "n": 1});
        for key_id in [None, Some("2026")] {
            let token = private.sign(&claims, key_id).unwrap();
            let read = UnverifiedJws::read(&token).unwrap();
            assert_eq!(read.key_id(), key_id);
            assert_eq!(read.verify([&public]).unwrap(), claims);
        }
        let token = private.sign(&claims, Some("2025")).unwrap();
        assert_eq!(UnverifiedJws::read(&token).unwrap().verify([&public]), Err(JwsError::Key));
        let long = json!({"iss": "a".repeat(MAX_JWS)});
        assert_eq!(private.sign(&long, None).err(), Some(SigningError::TooLong));
    }
    let (one, _) = key(Key::P256);
    for bad in ["", &one.public_pem()] {
        assert_eq!(SigningKey::from_pem(bad.as_bytes()).err(), Some(SigningError::Key));
    }
}

proptest! {
    #[test]
    fn arbitrary_token_does_not_panic(token in "[a-zA-Z0-9_.-]{0,200}", any in ".{0,40}") {
        for text in [&token, &any] {
            if let Ok(read) = UnverifiedJws::read(text) {
                prop_assert!(read.verify([]).is_err());
            }
        }
    }
}
