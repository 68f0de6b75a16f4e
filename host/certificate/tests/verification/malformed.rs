//! Malformed and oversized certificates, and their errors.

use proptest::prelude::*;
use rustls::CertificateError;
use saegis_certificate::{Flavour, MAX_CERTIFICATE, summary};

use super::*;

/// Returns the trust in a root, and the chain of an AE below an authority with a URI constraint.
fn chain() -> (Trust, Vec<CertificateDer<'static>>) {
    let root = root("root");
    let middle = Request::new("middle").permit(Name::uri("provider.com"));
    let middle = root.sub_authority(&middle).unwrap();
    let chain = middle.issue(&ae()).unwrap().chain().to_vec();
    (trusting(&root, &[Flavour::AeId]), chain)
}

#[test]
fn chain_with_flipped_bit_is_refused() {
    let (trust, chain) = chain();
    check("as it is", &client(&trust, &chain), Ok(THE_AE));
    for at in 0..chain.len() {
        for byte in 0..chain[at].len() {
            for bit in 0..8 {
                let mut changed = chain[at].to_vec();
                changed[byte] ^= 1 << bit;
                let mut sent = chain.clone();
                sent[at] = changed.into();
                let result = client(&trust, &sent);
                assert!(result.is_err(), "certificate {at}, byte {byte}, bit {bit}: {result:?}");
            }
        }
    }
}

#[test]
fn truncated_or_extended_certificate_is_refused() {
    let (trust, chain) = chain();
    for at in 0..chain.len() {
        let with = |der: Vec<u8>| {
            let mut sent = chain.clone();
            sent[at] = der.into();
            client(&trust, &sent)
        };
        for length in 0..chain[at].len() {
            check("cut off", &with(chain[at][..length].to_vec()), Err("Malformed"));
        }
        check("a byte behind", &with([&chain[at][..], &[0]].concat()), Err("Malformed"));
        check("another behind", &with(chain[at].repeat(2)), Err("Malformed"));
        check("PEM", &with(b"-----BEGIN CERTIFICATE-----".to_vec()), Err("Malformed"));
    }
}

#[test]
fn too_much_is_not_read() {
    let root = root("root");
    let trust = trusting(&root, &[Flavour::AeId]);
    for (padding, good) in [(15 << 10, true), (17 << 10, false), (64 << 10, false)] {
        let request = || ae().extension("1.2.3", false, vec![0; padding]);
        let issued = root.issue(&request()).unwrap();
        let expected = if good { Ok(THE_AE) } else { Err("TooLarge") };
        assert_eq!(good, issued.der().len() <= MAX_CERTIFICATE);
        check("padded", &client(&trust, issued.chain()), expected);
        // The same holds for a certificate that is sent along.
        let sent = [root.issue(&ae()).unwrap().chain(), issued.chain()].concat();
        check("sent along", &client(&trust, &sent), expected);
    }
    for (count, expected) in [(64, Ok(THE_AE)), (65, Err("Malformed"))] {
        let many = (0..count).fold(Request::new("x"), |request, _| request.name(Name::uri(AE)));
        check("names", &client(&trust, root.issue(&many).unwrap().chain()), expected);
    }
}

#[test]
fn repeated_or_malformed_extension_is_refused() {
    let root = root("root");
    let trust = trusting(&root, &[Flavour::AeId]);
    let names = |uri: &str| {
        let length = u8::try_from(uri.len()).unwrap();
        [&[0x30, length + 2, 0x86, length], uri.as_bytes()].concat()
    };
    let other = names("//provider.com/mn-cse-123456/Cother");
    let table = [
        ("names twice", ae().extension("2.5.29.17", false, names(AE))),
        ("other names too", ae().extension("2.5.29.17", false, other)),
        ("usage twice", ae().extension("2.5.29.15", true, [3, 2, 7, 0x80])),
        ("unknown twice", ae().extension("1.2.3", false, [5, 0]).extension("1.2.3", false, [5, 0])),
        ("no names", Request::new("x").extension("2.5.29.17", false, [5, 0])),
        ("cut off", Request::new("x").extension("2.5.29.17", false, &names(AE)[..20])),
        ("no text", Request::new("x").name(Name::der([0x86, 1, 0xFF]))),
        ("no such name", ae().name(Name::der([0x89, 0]))),
    ];
    for (what, request) in table {
        let issued = root.issue(&request).unwrap();
        check(what, &client(&trust, issued.chain()), Err("Malformed"));
        assert!(matches!(summary(&issued.chain()[0]), Err(Rejection::Malformed(_))), "{what}");
    }
    let critical = ae().extension("1.2.3", true, [5, 0]);
    check("critical", &client(&trust, root.issue(&critical).unwrap().chain()), Err("Path"));
    let unreadable = ae().usages([]).extension("2.5.29.15", true, [5, 0]);
    check("usage", &client(&trust, root.issue(&unreadable).unwrap().chain()), Err("KeyUsage"));
}

#[test]
fn rejections_map_to_few_alerts() {
    use CertificateError as E;
    let text = || "x".to_string();
    let table = [
        (
            E::UnknownIssuer,
            vec![
                Rejection::UnknownIssuer,
                Rejection::UnknownKey(text()),
                Rejection::NoTrust,
                Rejection::RevocationUnknown(text()),
            ],
        ),
        (E::Expired, vec![Rejection::Expired, Rejection::NotYetValid]),
        (E::Revoked, vec![Rejection::Revoked]),
        (E::BadSignature, vec![Rejection::BadSignature]),
        (
            E::InvalidPurpose,
            vec![
                Rejection::Purpose,
                Rejection::KeyUsage,
                Rejection::Key(KeyKind::Rsa),
                Rejection::OtherKey,
            ],
        ),
        (
            E::BadEncoding,
            vec![
                Rejection::Missing,
                Rejection::Malformed("x"),
                Rejection::TooLarge(1),
                Rejection::TooLong(1),
                Rejection::NameConstraints,
                Rejection::Path(text()),
                Rejection::NoIdentity(text()),
                Rejection::Conflict(text(), text()),
                Rejection::Wildcard(text()),
                Rejection::NotOurs(text(), "x"),
                Rejection::AnotherServer(text()),
            ],
        ),
    ];
    for (error, rejections) in table {
        for rejection in rejections {
            assert_eq!(rejection.as_error(), error, "{rejection:?}");
            // The alert is coarser than the text in the log.
            assert!(!rejection.to_string().is_empty());
        }
    }
}

/// Returns the chain and the trust of all cases, because generating keys takes time.
fn shared() -> &'static (Trust, Vec<CertificateDer<'static>>) {
    static SHARED: std::sync::OnceLock<(Trust, Vec<CertificateDer<'static>>)> =
        std::sync::OnceLock::new();
    SHARED.get_or_init(chain)
}

proptest! {
    #[test]
    fn garbage_is_refused(der in proptest::collection::vec(any::<u8>(), 0..600)) {
        let (trust, chain) = shared();
        prop_assert!(client(trust, &[der.clone().into()]).is_err());
        prop_assert!(client(trust, &[chain[0].clone(), der.clone().into()]).is_err());
        prop_assert!(summary(&der.clone().into()).is_err());
        let _ = trust.verify_key(&der);
    }

    #[test]
    fn randomly_changed_chain_is_refused(
        at in 0_usize..2,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0_u8..3), 1..8),
    ) {
        let (trust, chain) = shared();
        let mut der = chain[at].to_vec();
        for (place, byte, kind) in changes {
            match (kind, place.index(der.len())) {
                (0, place) => der[place] = byte,
                (1, place) => der.insert(place, byte),
                (_, place) => drop(der.remove(place)),
            }
        }
        prop_assume!(der != chain[at].to_vec());
        let _ = summary(&der.clone().into());
        let mut sent = chain.clone();
        sent[at] = der.into();
        prop_assert!(client(trust, &sent).is_err());
    }
}
