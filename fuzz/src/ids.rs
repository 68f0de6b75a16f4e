//! Identifiers and timestamps.

use std::fmt::{Debug, Display};

use saegis_onem2m::id::{
    AeIdStem, AppId, CredentialId, CseId, IdError, KpsaId, OriginatorId, check_fqdn,
};
use saegis_onem2m::timestamp;

/// Parsers of identifiers. A parsed identifier is written unchanged and parses to the same value.
pub fn ids(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    same(text, text, AeIdStem::parse);
    same(text, text, AppId::parse);
    same(text, text, KpsaId::parse);
    same(text, text, CredentialId::parse);
    same(text, &format!("/{}", text.strip_prefix('/').unwrap_or(text)), CseId::parse);
    assert_eq!(AeIdStem::check(text), AeIdStem::parse(text).map(drop));
    assert_eq!(KpsaId::check(text), KpsaId::parse(text).map(drop));
    if let Ok(id) = KpsaId::parse(text) {
        check_fqdn(id.issuer()).expect("an issuer has a domain name");
        let of_kpsa = CredentialId::of_kpsa(&id);
        assert_eq!(of_kpsa.value(), text);
        // The written form may exceed the length limit.
        assert!(
            CredentialId::parse(&of_kpsa.to_string()).is_ok_and(|id| id == of_kpsa)
                || text.len() > 253
        );
    }
    if let Ok(from) = OriginatorId::parse(text) {
        originator(text, from);
    }
    if let Ok(time) = timestamp::parse(text) {
        let written = timestamp::format(time);
        // A leap second becomes the second before it.
        let whole = text.split(',').next().unwrap_or_default();
        let leap = whole.strip_suffix("60").map(|minute| format!("{minute}59"));
        assert_eq!(written, leap.as_deref().unwrap_or(whole));
        assert_eq!(timestamp::parse(&written).map(timestamp::format), Ok(written));
    }
}

fn same<I: Display + Debug + PartialEq>(
    text: &str,
    written: &str,
    parse: impl Fn(&str) -> Result<I, IdError>,
) {
    if let Ok(id) = parse(text) {
        assert_eq!(id.to_string(), written);
        assert_eq!(parse(written), Ok(id));
    }
}

/// Asserts that an originator consists of valid parts that join to its text.
fn originator(text: &str, from: OriginatorId<'_>) {
    let stem = |stem: &str| AeIdStem::check(stem).expect("a stem is a stem");
    let cse = |id: &str| drop(CseId::parse(id).expect("a CSE-ID is a CSE-ID"));
    let together = match from {
        OriginatorId::AssignByRegistrar => "C".into(),
        OriginatorId::AssignByServiceProvider => "S".into(),
        OriginatorId::Stem(id) => {
            stem(id);
            id.into()
        }
        OriginatorId::SpRelative(first) => {
            cse(first);
            format!("/{first}")
        }
        OriginatorId::SpRelativeAe { cse: first, stem: id } => {
            cse(first);
            stem(id);
            format!("/{first}/{id}")
        }
        OriginatorId::SpRelativeAssign { cse: first } => {
            cse(first);
            format!("/{first}/S")
        }
        OriginatorId::Absolute { sp, first, stem: id } => {
            check_fqdn(sp).expect("a service provider has a domain name");
            cse(first);
            id.into_iter().for_each(stem);
            format!("//{sp}/{first}{}", id.map(|id| format!("/{id}")).unwrap_or_default())
        }
    };
    assert_eq!(together, text);
}
