use super::*;
use crate::store::Read;
use crate::testing::Bench;
use Access::{Delete, Discover, Notify, Retrieve, Update, UpdatePrivileges};
use ResourceType::Container;

const ALL: [Access; 7] =
    [Access::Create(Container), Retrieve, Update, Delete, Discover, Notify, UpdatePrivileges];

fn who<'a>(bench: &'a Bench, read: &'a dyn Read, from: &str) -> Originator<'a> {
    Originator::identify(read, bench.settings(), Some(from), bench.now()).unwrap()
}

#[test]
fn ae_has_access_to_its_subtree() {
    let bench = Bench::with_lights();
    let snapshot = bench.snapshot();
    let read = snapshot.read();
    let base = read.get("mn-cse-123456").unwrap().unwrap();
    let ae = read.get("Clight-AE1").unwrap().unwrap();
    let may = |from, access, on: &Record| {
        let who = who(&bench, read, from);
        super::may(&who, access, on).unwrap()
    };
    for access in ALL {
        assert!(may("Clight-AE1", access, &ae), "{access:?}");
        for other in ["Clight-AE2", "/in-cse", "/in-cse/Cx", "Cnobody"] {
            assert!(!may(other, access, &ae), "{other} {access:?}");
        }
        let looks = matches!(access, Retrieve | Discover);
        for other in ["Clight-AE2", "/in-cse"] {
            assert_eq!(may(other, access, &base), looks, "{other} {access:?}");
        }
        for other in ["/in-cse/Cx", "Cnobody"] {
            assert!(!may(other, access, &base), "{other} {access:?}");
        }
    }
}

#[test]
fn originators_are_told_apart() {
    let bench = Bench::with_lights();
    assert_eq!(bench.register("Slight", "slight").code, 2001);
    let snapshot = bench.snapshot();
    let identify =
        |from| Originator::identify(snapshot.read(), bench.settings(), from, bench.now());
    for (from, kind) in [
        ("Clight-AE1", Kind::Ae),
        ("/in-cse", Kind::Cse),
        ("//in.provider.com/in-cse", Kind::Cse),
        ("//elsewhere.com/in-cse", Kind::Cse),
        ("/Sother", Kind::Cse),
        ("/other/Clight-AE1", Kind::AeElsewhere),
        ("//a.b/c/Clight-AE1", Kind::AeElsewhere),
        ("Cnobody", Kind::Stranger),
        ("/mn-cse-123456/Clight-AE1", Kind::Stranger),
        ("//in.provider.com/mn-cse-123456/Clight-AE1", Kind::Stranger),
        ("/Slight", Kind::Stranger),
        ("//in.provider.com/Slight", Kind::Stranger),
        ("/mn-cse-123456", Kind::Stranger),
        ("//in.provider.com/mn-cse-123456", Kind::Stranger),
    ] {
        assert_eq!(identify(Some(from)).unwrap().kind(), kind, "{from}");
    }
    for none in [None, Some("C"), Some("S"), Some("/mn/S")] {
        assert!(matches!(identify(none), Err(Refusal::NoOriginator)), "{none:?}");
    }
    assert!(matches!(identify(Some("light")), Err(Refusal::Originator(_))));
}
