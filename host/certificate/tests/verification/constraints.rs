//! Name constraints: satisfied and violated, at the anchor and at intermediate authorities.

use saegis_certificate::{AnchorError, Flavour, summary};

use super::*;

type Constrain = fn(Request) -> Request;

/// Issues a certificate under a constraint of the anchor, of the authority below it, and of one
/// between.
#[track_caller]
fn constrained(
    what: &str,
    flavour: Flavour,
    constrain: Constrain,
    name: &Name,
) -> Vec<Result<VerifiedPeer, Rejection>> {
    let plain = || Request::new("plain");
    let request = Request::new("x").name(name.clone());
    let bound = constrain(Request::new(what));
    let anchor = Authority::new(&bound).unwrap();
    let under_anchor = anchor.sub_authority(&plain()).unwrap();
    let root = root("root");
    let below = root.sub_authority(&bound).unwrap();
    let further = below.sub_authority(&plain()).unwrap();
    let issue = |root: &Authority, by: &Authority| {
        client(&trusting(root, &[flavour]), by.issue(&request).unwrap().chain())
    };
    vec![
        issue(&anchor, &anchor),
        issue(&anchor, &under_anchor),
        issue(&root, &below),
        issue(&root, &further),
    ]
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn constraints_bind_wherever_they_stand() {
    const OK: bool = true;
    const NO: bool = false;
    let uri = |uri: &str| Name::uri(uri);
    let dns = |name: &str| Name::dns(name);
    let table: Vec<(&str, Flavour, Constrain, Name, bool)> = vec![
        ("its host", Flavour::AeId, |r| r.permit(Name::uri("provider.com")), uri(AE), OK),
        ("in capitals", Flavour::AeId, |r| r.permit(Name::uri("PROVIDER.com")), uri(AE), OK),
        (
            "one of two",
            Flavour::AeId,
            |r| r.permit(Name::uri("other.com")).permit(Name::uri("provider.com")),
            uri(AE),
            OK,
        ),
        ("other host", Flavour::AeId, |r| r.permit(Name::uri("other.com")), uri(AE), NO),
        ("hosts below", Flavour::AeId, |r| r.permit(Name::uri(".provider.com")), uri(AE), NO),
        ("hosts below it", Flavour::AeId, |r| r.permit(Name::uri(".com")), uri(AE), OK),
        ("not it", Flavour::AeId, |r| r.exclude(Name::uri("provider.com")), uri(AE), NO),
        ("not below", Flavour::AeId, |r| r.exclude(Name::uri(".com")), uri(AE), NO),
        ("not another", Flavour::AeId, |r| r.exclude(Name::uri("other.com")), uri(AE), OK),
        (
            "permitted and excluded",
            Flavour::AeId,
            |r| r.permit(Name::uri("provider.com")).exclude(Name::uri("provider.com")),
            uri(AE),
            NO,
        ),
        ("no host", Flavour::AeId, |r| r.exclude(Name::uri("https://other.com")), uri(AE), NO),
        ("empty", Flavour::AeId, |r| r.exclude(Name::uri("")), uri(AE), NO),
        ("other form", Flavour::AeId, |r| r.permit(Name::dns("other.com")), uri(AE), OK),
        ("urn", Flavour::NodeId, |r| r.permit(Name::uri("provider.com")), uri("urn:x"), NO),
        ("urn", Flavour::NodeId, |r| r.exclude(Name::uri("provider.com")), uri("urn:x"), NO),
        (
            "a host within a path",
            Flavour::NodeId,
            |r| r.permit(Name::uri("provider.com")),
            uri("urn:x//provider.com"),
            NO,
        ),
        (
            "a user",
            Flavour::NodeId,
            |r| r.permit(Name::uri("provider.com")),
            uri("x://provider.com@other.com"),
            NO,
        ),
        (
            "a URL",
            Flavour::NodeId,
            |r| r.permit(Name::uri("provider.com")),
            uri("https://provider.com/n"),
            OK,
        ),
        (
            "domain",
            Flavour::CseId,
            |r| r.permit(Name::dns("provider.com")),
            dns("in.provider.com"),
            OK,
        ),
        (
            "itself",
            Flavour::CseId,
            |r| r.permit(Name::dns("in.provider.com")),
            dns("in.provider.com"),
            OK,
        ),
        (
            "other",
            Flavour::CseId,
            |r| r.permit(Name::dns("n.provider.com")),
            dns("in.provider.com"),
            NO,
        ),
        (
            "with a dot",
            Flavour::CseId,
            |r| r.permit(Name::dns(".in.provider.com")),
            dns("in.provider.com"),
            NO,
        ),
        (
            "with a dot",
            Flavour::CseId,
            |r| r.exclude(Name::dns(".in.provider.com")),
            dns("in.provider.com"),
            NO,
        ),
        (
            "excluded",
            Flavour::CseId,
            |r| r.exclude(Name::dns("provider.com")),
            dns("in.provider.com"),
            NO,
        ),
        ("any", Flavour::CseId, |r| r.exclude(Name::dns("")), dns("in.provider.com"), NO),
        ("any", Flavour::CseId, |r| r.permit(Name::dns("")), dns("in.provider.com"), OK),
        ("URI", Flavour::CseId, |r| r.permit(Name::uri("other.com")), dns("in.provider.com"), OK),
        (
            "both forms",
            Flavour::AeId,
            |r| r.permit(Name::uri("provider.com")).permit(Name::dns("provider.com")),
            uri(AE),
            OK,
        ),
        // An address, and a directory name, with which constraints are not compared.
        ("directory", Flavour::AeId, |r| r.permit(Name::der([0xA4, 2, 0x30, 0])), uri(AE), NO),
        (
            "any hardware",
            Flavour::Device,
            |r| r.permit(Name::device("0.2.481.1", "1")),
            Name::device("0.2.481.1", "1"),
            NO,
        ),
        (
            "no hardware",
            Flavour::Device,
            |r| r.exclude(Name::device("0.2.481.1", "1")),
            Name::device("0.2.481.1", "2"),
            NO,
        ),
    ];
    for (what, flavour, constrain, name, good) in table {
        for (place, result) in constrained(what, flavour, constrain, &name).iter().enumerate() {
            if good {
                assert!(result.is_ok(), "{what} {name:?} {place}: {result:?}");
            } else {
                // For some, webpki reports that the constraint is malformed.
                let refused =
                    matches!(result, Err(Rejection::NameConstraints | Rejection::Path(_)));
                assert!(refused, "{what} {name:?} {place}: {result:?}");
            }
        }
    }
}

#[test]
fn constraints_of_each_issuer_apply_to_each_name() {
    let two = ae().name(Name::dns("x.other.com"));
    let root = Authority::new(&Request::new("root").permit(Name::dns("provider.com"))).unwrap();
    let trust = trusting(&root, &[Flavour::AeId]);
    check(
        "second name",
        &client(&trust, root.issue(&two).unwrap().chain()),
        Err("NameConstraints"),
    );
    // An authority may exclude names that another permits, but cannot permit names that those above
    // do not.
    let upper = root.sub_authority(&Request::new("upper").permit(Name::uri("other.com"))).unwrap();
    let lower =
        upper.sub_authority(&Request::new("lower").permit(Name::uri("provider.com"))).unwrap();
    check("widened", &client(&trust, lower.issue(&ae()).unwrap().chain()), Err("NameConstraints"));
    // Constraints also apply to the names of authorities.
    let named = Request::new("named").name(Name::dns("x.other.com"));
    let named = root.sub_authority(&named).unwrap();
    check(
        "authority",
        &client(&trust, named.issue(&ae()).unwrap().chain()),
        Err("NameConstraints"),
    );
}

#[test]
fn constraints_that_cannot_be_read_are_no_permission() {
    // A list with one invalid name, which x509-parser treats as no list.
    let broken: &[u8] = b"\x30\x09\xA0\x07\x30\x05\x06\x03a.b";
    let request = || Request::new("broken").extension("2.5.29.30", true, broken);
    let anchor = Authority::new(&request()).unwrap();
    let refused = Anchor::new(anchor.der().clone(), &[Flavour::AeId], &[KeyKind::P256], &[]);
    assert!(matches!(refused.err(), Some(AnchorError::Unreadable(Rejection::Malformed(_)))));
    assert!(matches!(summary(anchor.der()), Err(Rejection::Malformed(_))));
    // webpki stops at the first violation, that of the upper authority, and does not check the
    // lower one.
    let root = root("root");
    let upper = Request::new("upper").permit(Name::uri("provider.com"));
    let upper = root.sub_authority(&upper).unwrap();
    let lower = upper.sub_authority(&request()).unwrap();
    let trust = trusting(&root, &[Flavour::AeId]);
    check("lower", &client(&trust, lower.issue(&ae()).unwrap().chain()), Err("Malformed"));
}

#[test]
fn summary_lists_names_and_constraints() {
    let request =
        Request::new("root").permit(Name::uri("provider.com")).exclude(Name::dns("other.com"));
    let root = Authority::new(&request).unwrap();
    let found = summary(root.der()).unwrap();
    assert_eq!(found.constraints, ["permits URI provider.com", "excludes DNS other.com"]);
    assert!(found.is_ca && !found.may_sign && found.names.is_empty());
    assert_eq!(found.subject, "CN=root");
    let named = ae().name(Name::device("0.2.481.1", "7")).name(Name::dns("a.b"));
    let found = summary(&root.issue(&named).unwrap().chain()[0]).unwrap();
    assert_eq!(found.names, [&format!("URI {AE}"), "hardware 0.2.481.1.7", "DNS a.b"]);
    assert!(!found.is_ca && found.may_sign);
    assert_eq!((found.issuer.as_str(), found.key), ("CN=root", Some(KeyKind::P256)));
}
