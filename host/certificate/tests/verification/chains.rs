//! Issuers and validity, with and without URI constraints, because this crate takes part of
//! webpki's checks over under those.

use saegis_certificate::{AnchorError, Flavour, MAX_CHAIN};
use saegis_test_ca::{ExtendedKeyUsagePurpose, Issued, Key, KeyUsagePurpose};

use super::*;

/// Two authorities below a root, and an AE.
struct Chain {
    root: Authority,
    upper: Authority,
    lower: Authority,
    end: Issued,
}

impl Chain {
    /// Creates a valid chain with one change.
    fn new(constrained: bool, change: &dyn Fn(&str, Request) -> Request) -> Self {
        let request = |name: &str| {
            let request = Request::new(name);
            let request = if constrained && matches!(name, "upper" | "lower") {
                request.permit(Name::uri("provider.com")).exclude(Name::uri("other.com"))
            } else {
                request
            };
            change(name, request)
        };
        let root = Authority::new(&request("root")).unwrap();
        let upper = root.sub_authority(&request("upper")).unwrap();
        let lower = upper.sub_authority(&request("lower")).unwrap();
        let end = lower.issue(&change("end", ae())).unwrap();
        Self { root, upper, lower, end }
    }

    fn verify(&self, chain: &[CertificateDer<'_>]) -> Result<VerifiedPeer, Rejection> {
        client(&trusting(&self.root, &[Flavour::AeId]), chain)
    }
}

type Change = dyn Fn(Request) -> Request;

#[test]
fn invalid_certificate_in_chain_is_refused() {
    use KeyUsagePurpose::{CrlSign, DigitalSignature, KeyAgreement};
    let server = || vec![ExtendedKeyUsagePurpose::ServerAuth];
    let table: [(&str, &str, &Change, Result<&str, &str>); 27] = [
        ("good", "end", &|r| r, Ok(THE_AE)),
        ("extended usage is not needed", "end", &|r| r.extended_usages([]), Ok(THE_AE)),
        (
            "client alone",
            "end",
            &|r| r.extended_usages([ExtendedKeyUsagePurpose::ClientAuth]),
            Ok(THE_AE),
        ),
        ("deep enough", "upper", &|r| r.path_length(1), Ok(THE_AE)),
        ("expired", "root", &|r| r.valid(past()), Err("Expired")),
        ("expired", "upper", &|r| r.valid(past()), Err("Expired")),
        ("expired", "lower", &|r| r.valid(past()), Err("Expired")),
        ("expired", "end", &|r| r.valid(past()), Err("Expired")),
        ("too early", "root", &|r| r.valid(future()), Err("NotYetValid")),
        ("too early", "upper", &|r| r.valid(future()), Err("NotYetValid")),
        ("too early", "lower", &|r| r.valid(future()), Err("NotYetValid")),
        ("too early", "end", &|r| r.valid(future()), Err("NotYetValid")),
        ("server's usage", "end", &move |r| r.extended_usages(server()), Err("Purpose")),
        ("server's usage", "lower", &move |r| r.extended_usages(server()), Err("Purpose")),
        ("server's usage", "upper", &move |r| r.extended_usages(server()), Err("Purpose")),
        ("other usage", "end", &|r| r.usages([KeyAgreement]), Err("KeyUsage")),
        ("no usage", "end", &|r| r.usages([]), Err("KeyUsage")),
        ("no authority", "lower", &|r| r.without_authority(), Err("Path")),
        ("no authority", "upper", &|r| r.without_authority(), Err("Path")),
        ("usage of an authority", "upper", &|r| r.usages([]), Ok(THE_AE)),
        ("no keyCertSign", "lower", &|r| r.usages([CrlSign]), Err("Path")),
        ("no keyCertSign", "upper", &|r| r.usages([DigitalSignature]), Err("Path")),
        ("too deep", "upper", &|r| r.path_length(0), Err("Path")),
        ("P-384", "end", &|r| r.key(Key::P384), Err("Key")),
        ("P-384", "lower", &|r| r.key(Key::P384), Err("Key")),
        ("P-384", "root", &|r| r.key(Key::P384), Err("Key")),
        ("unknown extension", "lower", &|r| r.extension("1.2.3", true, [5, 0]), Err("Path")),
    ];
    for constrained in [false, true] {
        for (what, whom, change, expected) in table {
            let change = |name: &str, request| if name == whom { change(request) } else { request };
            let chain = Chain::new(constrained, &change);
            let what = format!("{what}: {whom}, constrained: {constrained}");
            check(&what, &chain.verify(chain.end.chain()), expected);
        }
    }
}

#[test]
fn unsigned_link_in_chain_is_refused() {
    for constrained in [false, true] {
        let chain = Chain::new(constrained, &|_, request| request);
        let [end, lower, upper] = chain.end.chain() else { panic!("three certificates") };
        let of_tampered = |at: usize| {
            let mut all = chain.end.chain().to_vec();
            all[at] = tampered(&all[at]);
            chain.verify(&all)
        };
        for at in 0..3 {
            check(&format!("tampered {at}"), &of_tampered(at), Err("BadSignature"));
        }
        // The same names with other keys.
        let fake = Chain::new(constrained, &|_, request| request);
        let [fake_end, fake_lower, fake_upper] = fake.end.chain() else { panic!("three") };
        let table: [(&str, &[&CertificateDer<'_>]); 9] = [
            ("another's whole chain", &[fake_end, fake_lower, fake_upper]),
            ("another's end", &[fake_end, lower, upper]),
            ("another's lower", &[end, fake_lower, upper]),
            ("another's upper", &[end, lower, fake_upper]),
            ("another's end and lower", &[fake_end, fake_lower, upper]),
            ("another's end, all sent", &[fake_end, fake_lower, fake_upper, lower, upper]),
            ("with the root", &[fake_end, fake_lower, fake_upper, fake.root.der()]),
            ("with our root", &[fake_end, fake_lower, fake_upper, chain.root.der()]),
            ("ours first", &[fake_end, lower, upper, fake_lower, fake_upper]),
        ];
        for (what, sent) in table {
            let sent: Vec<_> = sent.iter().map(|der| (*der).clone()).collect();
            check(what, &chain.verify(&sent), Err("BadSignature"));
        }
        for (what, sent) in [("alone", vec![end]), ("without lower", vec![end, upper])] {
            let sent: Vec<_> = sent.into_iter().cloned().collect();
            check(what, &chain.verify(&sent), Err("UnknownIssuer"));
        }
        let stranger = root("stranger").issue(&ae()).unwrap();
        check("stranger", &chain.verify(stranger.chain()), Err("UnknownIssuer"));
    }
}

#[test]
fn end_entity_certificate_cannot_issue() {
    for constrained in [false, true] {
        let chain = Chain::new(constrained, &|_, request| request);
        // An AE with a valid certificate issues one in the name of another AE.
        let own = Request::new("evil").name(Name::uri("//provider.com/mn-cse-123456/Cevil"));
        let evil = chain.lower.sub_authority(&own.without_authority()).unwrap();
        let forged = evil.issue(&ae()).unwrap();
        check("forged", &chain.verify(forged.chain()), Err("Path"));
        // The same with the name of an existing authority.
        for name in ["root", "upper", "lower"] {
            let evil = chain.lower.sub_authority(&Request::new(name).without_authority()).unwrap();
            let forged = evil.issue(&ae()).unwrap();
            let result = chain.verify(forged.chain());
            assert!(result.is_err(), "{name}: {result:?}");
            let [end, evil, ..] = forged.chain() else { panic!("four") };
            let all = [end, evil, chain.lower.der(), chain.upper.der(), chain.root.der()];
            for others in [[2, 3, 4], [3, 2, 4], [4, 2, 3], [2, 4, 3], [3, 4, 2], [4, 3, 2]] {
                for evil_at in 0..=3 {
                    let mut order = others.to_vec();
                    order.insert(evil_at, 1);
                    order.insert(0, 0);
                    let sent: Vec<_> = order.iter().map(|at| all[*at].clone()).collect();
                    let result = chain.verify(&sent);
                    assert!(result.is_err(), "{name} {order:?}: {result:?}");
                }
            }
        }
        let authority = chain.verify(&[chain.lower.der().clone(), chain.upper.der().clone()]);
        check("an authority itself", &authority, Err("Path"));
    }
}

#[test]
fn order_and_extra_certificates_are_ignored() {
    for constrained in [false, true] {
        let chain = Chain::new(constrained, &|_, request| request);
        let stranger = root("stranger");
        let [end, lower, upper] = chain.end.chain() else { panic!("three certificates") };
        let (root, stranger) = (chain.root.der(), stranger.der());
        let table: [&[&CertificateDer<'_>]; 5] = [
            &[end, lower, upper, root],
            &[end, upper, lower],
            &[end, root, stranger, upper, lower],
            &[end, lower, lower, upper, upper],
            &[end, lower, upper, end],
        ];
        for sent in table {
            let sent: Vec<_> = sent.iter().map(|der| (*der).clone()).collect();
            check("order", &chain.verify(&sent), Ok(THE_AE));
        }
        // The peer's own certificate must be first: the handshake proves its key.
        let sent = [lower.clone(), end.clone(), upper.clone()];
        check("own comes second", &chain.verify(&sent), Err("Path"));
    }
}

#[test]
fn intermediate_may_be_trust_anchor() {
    let chain = Chain::new(true, &|_, request| request);
    for authority in [&chain.lower, &chain.upper] {
        let trust = trusting(authority, &[Flavour::AeId]);
        check("anchor", &client(&trust, chain.end.chain()), Ok(THE_AE));
    }
    // The first anchor on the path is tried, then the next one.
    let both =
        trust([anchor(&chain.lower, &[Flavour::NodeId]), anchor(&chain.root, &[Flavour::AeId])]);
    check("two anchors", &client(&both, chain.end.chain()), Ok(THE_AE));
}

#[test]
fn long_chains_are_not_read() {
    let root = root("root");
    let mut last = root.sub_authority(&Request::new("0")).unwrap();
    for depth in 1..15 {
        last = last.sub_authority(&Request::new(depth.to_string())).unwrap();
        let issued = last.issue(&ae()).unwrap();
        let result = client(&trusting(&root, &[Flavour::AeId]), issued.chain());
        if issued.chain().len() <= MAX_CHAIN {
            check("short", &result, Ok(THE_AE));
        } else {
            assert_eq!(result, Err(Rejection::TooLong(issued.chain().len())));
        }
    }
    assert_eq!(last.issue(&ae()).unwrap().chain().len(), 16);
}

#[test]
fn chain_with_equal_names_is_refused_early() {
    // All certificates have the name of the anchor. webpki would try each order of them, with a
    // hundred signatures in total, and then report that this was too much.
    let (ours, fake) = (root("root"), root("root"));
    let mut sent = vec![fake.issue(&ae()).unwrap().chain()[0].clone()];
    sent.extend((1..MAX_CHAIN).map(|_| root("root").der().clone()));
    let trust = trusting(&ours, &[Flavour::AeId]);
    check("one name", &client(&trust, &sent), Err("BadSignature"));
}

#[test]
fn chain_without_trust_anchor_is_refused() {
    let root = root("root");
    let chain = root.issue(&ae()).unwrap();
    check("no anchors", &client(&trust([]), chain.chain()), Err("NoTrust"));
    check("no certificate", &client(&trusting(&root, &[Flavour::AeId]), &[]), Err("Missing"));
    let other = self::root("root");
    check(
        "its namesake",
        &client(&trusting(&other, &[Flavour::AeId]), chain.chain()),
        Err("BadSignature"),
    );
    check(
        "itself",
        &client(&trusting(&root, &[Flavour::AeId]), &[root.der().clone()]),
        Err("Path"),
    );
}

#[test]
fn chain_expires_with_earliest_certificate() {
    let now = SystemTime::now();
    for whom in ["root", "upper", "lower", "end"] {
        let short = Validity { from: now - DAY, until: now + 2 * DAY };
        let change = |name: &str, request: Request| {
            if name == whom { request.valid(short) } else { request }
        };
        let chain = Chain::new(true, &change);
        let until = chain.verify(chain.end.chain()).unwrap().until.unwrap();
        assert!(until <= now + 2 * DAY && until > now + DAY, "{whom}");
        let trust = trusting(&chain.root, &[Flavour::AeId]);
        let later = trust.verify(chain.end.chain(), Purpose::Client, until);
        check(whom, &later, Err("Expired"));
    }
}

#[test]
fn anchor_must_be_authority_with_flavour() {
    let root = root("root");
    let new = |der: &[u8], flavours: &[Flavour]| {
        Anchor::new(der.to_vec().into(), flavours, &[KeyKind::P256], &[]).err()
    };
    assert_eq!(new(root.der(), &[]), Some(AnchorError::NoFlavour));
    let both = [Flavour::CseId, Flavour::Fqdn];
    assert_eq!(new(root.der(), &both), Some(AnchorError::LookAlike));
    let end = root.issue(&ae()).unwrap();
    assert_eq!(new(end.der(), &[Flavour::AeId]), Some(AnchorError::NoAuthority));
    assert!(matches!(new(b"x", &[Flavour::AeId]), Some(AnchorError::Unreadable(_))));
    let unreadable =
        Anchor::new(root.der().clone(), &[Flavour::AeId], &[KeyKind::P256], &[vec![1]]);
    assert!(matches!(unreadable.err(), Some(AnchorError::Crl(_))));
}
