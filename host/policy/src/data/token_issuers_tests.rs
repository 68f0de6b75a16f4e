use saegis_test_ca::{Key, RawKey};

use super::*;

fn parse(text: &str) -> Result<TokenIssuers, Vec<String>> {
    let cse = CseId::parse("mn").unwrap();
    let parsed = TokenIssuers::parse(Path::new(FILE), text, &cse, Some("In.provider.com"));
    parsed.map_err(|faults| faults.iter().map(ToString::to_string).collect())
}

fn public(kind: Key) -> String {
    RawKey::new(kind).unwrap().public_pem()
}

/// Returns a file with one issuer, with these lines and its key.
fn file(lines: &str) -> String {
    let key = public(Key::P256);
    format!(
        "[[issuer]]\nid = \"das\"\n{lines}\n[[issuer.key]]\nalgorithm = \"ES256\"\n\
         public = \"\"\"\n{key}\"\"\"\n"
    )
}

#[test]
fn bounds_of_issuer_are_read() {
    let text = file(
        "max-life-seconds = 60\nholders = [\"//in.provider.com/mn/C*\"]\n\
         roles = [\"technician@*\"]\nresources = [\"cse/light1/*\"]\naddress = \"https://das\"",
    );
    let all = parse(&format!("revoked = [\"a@das\"]\n{text}")).unwrap();
    assert_eq!((all.counts(), all.addresses()), ((1, 1), &["https://das".to_owned()][..]));
    assert!(all.is_revoked("a@das") && !all.is_revoked("b@das") && all.issuer("other").is_none());
    let issuer = all.issuer("das").unwrap();
    assert_eq!((issuer.keys.len(), issuer.max_life), (1, Duration::from_secs(60)));
    assert!(issuer.may_name_holder("//in.provider.com/mn/Clight"));
    assert!(!issuer.may_name_holder("//in.provider.com/mn/Slight"));
    let role = |id| RoleId::parse(id).unwrap();
    assert!(issuer.may_give_role(&role("technician@a.b")));
    assert!(!issuer.may_give_role(&role("tenant@a.b")));
    assert!(issuer.may_give_privileges("cse/light1/lamp"));
    assert!(!issuer.may_give_privileges("cse/light2/lamp"));
}

#[test]
fn issuer_may_give_nothing_by_default() {
    let all = parse(&file("holders = []")).unwrap();
    let issuer = all.issuer("das").unwrap();
    assert_eq!(issuer.max_life, Duration::from_secs(86_400));
    assert!(!issuer.may_name_holder("//a/b"));
    assert!(!issuer.may_give_role(&RoleId::parse("a@b").unwrap()));
    assert!(!issuer.may_give_privileges("cse"));
    assert_eq!(parse("").unwrap().counts(), (0, 0));
}

#[test]
fn fault_has_position() {
    let long = "a".repeat(MAX_TEXT + 1);
    // The line with the id of the second issuer.
    let second = file("holders = []").lines().count() + 2;
    for (text, fault) in [
        (file(""), "token-issuers.toml:1:1: missing field `holders`".to_owned()),
        (file("holders = [\"C*\"]"), "token-issuers.toml:3:12: \"C*\" is not an absolute".into()),
        (
            file("holders = []\nroles = [\"\"]"),
            "token-issuers.toml:4:10: \"\" must have 1 to 256 visible".into(),
        ),
        (
            file(&format!("holders = []\naddress = \"{long}\"")),
            format!("token-issuers.toml:4:11: \"{long}\" must have 1"),
        ),
        (
            file("holders = []\nmax-life-seconds = 0"),
            "token-issuers.toml:4:20: must be 1 to 2678400 seconds".into(),
        ),
        (file("holders = []\nalg = \"none\""), "token-issuers.toml:4:1: unknown field".into()),
        (format!("revoked = [\"a b\"]\n{}", file("holders = []")), {
            "token-issuers.toml:1:12: \"a b\" must have".into()
        }),
        (
            format!("{0}{0}", file("holders = []")),
            format!("token-issuers.toml:{second}:6: \"das\" is also the id of another issuer"),
        ),
    ] {
        let faults = parse(&text).unwrap_err();
        assert!(faults[0].starts_with(&fault), "{faults:?}, not {fault}");
    }
}

/// The algorithm is that of a public key, so there is no way to accept an unsigned token, or one with
/// a MAC.
#[test]
fn algorithm_must_be_that_of_public_key() {
    let file = |algorithm: &str, public: &str| {
        format!(
            "[[issuer]]\nid = \"das\"\nholders = []\n[[issuer.key]]\n\
             algorithm = \"{algorithm}\"\npublic = '''{public}'''\n"
        )
    };
    let (small, large) = (public(Key::P256), public(Key::P384));
    parse(&file("ES256", &small)).unwrap();
    parse(&file("ES384", &large)).unwrap();
    for algorithm in ["none", "HS256", "RS256", "es256", ""] {
        let faults = parse(&file(algorithm, &small)).unwrap_err();
        assert!(faults[0].ends_with("is not ES256 or ES384"), "{faults:?}");
        assert!(faults[0].starts_with("token-issuers.toml:5:13: "), "{faults:?}");
    }
    let private = RawKey::new(Key::P256).unwrap().key_pem();
    for (algorithm, public, what) in [
        ("ES256", large.as_str(), "is not a key of ES256"),
        ("ES384", &small, "is not a key of ES384"),
        ("ES256", "secret", "must be one public key in PEM (BEGIN PUBLIC KEY), or a JWK"),
        ("ES256", &private, "must be one public key in PEM (BEGIN PUBLIC KEY), or a JWK"),
        ("ES256", "{\"kty\":\"oct\",\"k\":\"AAAA\"}", "must be a key of P-256 or P-384"),
    ] {
        let faults = parse(&file(algorithm, public)).unwrap_err();
        assert_eq!(faults, [format!("token-issuers.toml:6:10: {what}")]);
    }
    let none = "[[issuer]]\nid = \"das\"\nholders = []\nkey = []\n";
    assert_eq!(parse(none).unwrap_err(), ["token-issuers.toml:2:6: \"das\" has no key"]);
}

#[test]
fn service_provider_is_required() {
    let cse = CseId::parse("mn").unwrap();
    let faults = TokenIssuers::parse(Path::new(FILE), "", &cse, None).unwrap_err();
    assert!(faults[0].to_string().contains("needs cse.service-provider"), "{faults:?}");
}
