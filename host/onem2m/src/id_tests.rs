use super::*;
use proptest::prelude::*;

#[test]
fn worked_example_ids_are_parsed() {
    assert_eq!(AeIdStem::parse("Clight-AE1").unwrap().as_str(), "Clight-AE1");
    assert_eq!(CseId::parse("mn-cse-123456").unwrap().to_string(), "/mn-cse-123456");
    let kpsa = KpsaId::parse("AE123456789012-Light@in.provider.com").unwrap();
    assert_eq!(kpsa.issuer(), "in.provider.com");
    assert_eq!(CredentialId::of_kpsa(&kpsa).to_string(), "12-AE123456789012-Light@in.provider.com");
}

#[test]
fn credential_id_is_split_at_first_hyphen() {
    let id = CredentialId::parse("12-AE-1@a.b").unwrap();
    assert_eq!((id.kind(), id.value()), (CredentialType::Kpsa, "AE-1@a.b"));
    for bad in ["", "12", "12-", "1-x", "+1-x", "ab-x", "123-x", "12-a b"] {
        assert!(CredentialId::parse(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn stems_are_refused_for_what_they_are_not() {
    for bad in ["", "C", "S", "Xlight", "C/x", "/Cx", "Clight AE1", "Cl\u{e9}", "clight"] {
        assert!(AeIdStem::parse(bad).is_err(), "{bad:?}");
    }
    assert_eq!(AeIdStem::parse("Clight AE1"), Err(IdError::Character { found: ' ', at: 7 }));
}

#[test]
fn kpsa_ids_keep_to_clause_10_5() {
    for bad in ["x", "@a.b", "x@", "x y@a.b", "x@a..b", "x@-a.b", "x@a@b", "x@a_b"] {
        assert!(KpsaId::parse(bad).is_err(), "{bad:?}");
    }
    assert_eq!(KpsaId::parse("ab@c.d!"), Err(IdError::Character { found: '!', at: 7 }));
}

#[test]
fn originator_forms_are_parsed() {
    assert_eq!(OriginatorId::parse("C"), Ok(OriginatorId::AssignByRegistrar));
    assert_eq!(OriginatorId::parse("S"), Ok(OriginatorId::AssignByServiceProvider));
    assert_eq!(OriginatorId::parse("Clight"), Ok(OriginatorId::Stem("Clight")));
    assert_eq!(OriginatorId::parse("/cse1"), Ok(OriginatorId::SpRelative("cse1")));
    assert_eq!(
        OriginatorId::parse("/cse1/Cx"),
        Ok(OriginatorId::SpRelativeAe { cse: "cse1", stem: "Cx" })
    );
    assert_eq!(
        OriginatorId::parse("/cse1/Sx"),
        Ok(OriginatorId::SpRelativeAe { cse: "cse1", stem: "Sx" })
    );
    assert_eq!(OriginatorId::parse("/cse1/S"), Ok(OriginatorId::SpRelativeAssign { cse: "cse1" }));
    assert_eq!(OriginatorId::parse("/S/S"), Ok(OriginatorId::SpRelativeAssign { cse: "S" }));
    assert_eq!(OriginatorId::parse("/S"), Ok(OriginatorId::SpRelative("S")));
    assert_eq!(
        OriginatorId::parse("//sp.org/cse1"),
        Ok(OriginatorId::Absolute { sp: "sp.org", first: "cse1", stem: None })
    );
    assert_eq!(
        OriginatorId::parse("//sp.org/cse1/Cx"),
        Ok(OriginatorId::Absolute { sp: "sp.org", first: "cse1", stem: Some("Cx") })
    );
    for bad in [
        "",
        "/",
        "//",
        "//sp",
        "//sp/",
        "///x",
        "/a/b",
        "/a/Cx/y",
        "a/Cx",
        "/a//Cx",
        "x",
        "C x",
        // A CSE requests an AE-ID for its own AEs only, and not through another CSE.
        "/a/C",
        "/a/s",
        "/a/S/",
        "/a/S/Sx",
        "a/S",
        "//S",
        "//sp.org/a/S",
    ] {
        assert!(OriginatorId::parse(bad).is_err(), "{bad:?}");
    }
}

proptest! {
    #[test]
    fn arbitrary_id_does_not_panic(text in ".{0,300}") {
        let _ = (AeIdStem::parse(&text), CseId::parse(&text), KpsaId::parse(&text));
        let _ = (CredentialId::parse(&text), AppId::parse(&text), OriginatorId::parse(&text).is_ok());
    }

    #[test]
    fn parsed_stem_round_trips(text in "[CS][A-Za-z0-9._~-]{1,40}") {
        let stem = AeIdStem::parse(&text).unwrap();
        prop_assert_eq!(stem.as_str(), text.as_str());
        prop_assert_eq!(OriginatorId::parse(&text), Ok(OriginatorId::Stem(text.as_str())));
    }

    #[test]
    fn credential_id_round_trips(kind in 10u8..=99, value in "[A-Za-z0-9._@-]{1,40}") {
        let text = format!("{kind}-{value}");
        prop_assert_eq!(CredentialId::parse(&text).unwrap().to_string(), text);
    }
}
