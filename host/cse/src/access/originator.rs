//! The identifiers of an originator, and their comparison with identifiers in resources (TS-0001
//! clause 7.2, TS-0003 clause 7.1.3).
//!
//! One originator has several identifiers: an AE of this CSE is `Clight`, `/mn/Clight` and
//! `//sp.com/mn/Clight`. An identifier in a resource is compared with the one of the same form.

use saegis_onem2m::wildcard;

use crate::identifiers::{ALL, is_stem};
use crate::record::names::Reference;
use crate::resource::ae_announcement;
use crate::resource::remote_cse;
use crate::settings::Settings;

/// The identifiers of an originator. An originator without identifiers is never named.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    /// AE-ID-Stem, if registered here.
    stem: Option<String>,
    /// SP-relative identifier, if the service provider is that of this CSE.
    sp_relative: Option<String>,
    /// Absolute identifier, if the service provider is known.
    absolute: Option<String>,
    /// Domain name of the service provider, if known.
    sp: Option<String>,
    /// AE-ID-Stem under which records store the registrant, and the registrant, if known.
    registered: Option<(String, Option<String>)>,
}

impl Identity {
    /// Returns the identity of an AE that `registrant` registered here.
    pub(crate) fn of_ae(settings: &Settings, stem: &str, registrant: Option<String>) -> Self {
        let sp_relative = match stem.starts_with('S') {
            true => format!("/{stem}"),
            false => format!("{}/{stem}", settings.cse_id),
        };
        let registered = Some((stem.into(), registrant));
        Self { stem: Some(stem.into()), registered, ..Self::of_sp(settings, sp_relative) }
    }

    /// Returns the identity of a CSE, or of an AE elsewhere with an S-type AE-ID-Stem. The AE is
    /// announced here if its registrant is known.
    pub(crate) fn announced(settings: &Settings, stem: &str, registrant: Option<String>) -> Self {
        let registered = Some((stem.into(), registrant));
        Self { registered, ..Self::of_sp(settings, format!("/{stem}")) }
    }

    /// Returns the identity of a CSE elsewhere or of its AE. `rest` follows the service provider,
    /// which is that of this CSE if `sp` is `None`.
    pub(crate) fn elsewhere(settings: &Settings, sp: Option<&str>, rest: &str) -> Self {
        match sp {
            None => Self::of_sp(settings, format!("/{rest}")),
            Some(sp) => Self {
                absolute: Some(format!("//{sp}/{rest}")),
                sp: Some(sp.into()),
                ..Self::default()
            },
        }
    }

    fn of_sp(settings: &Settings, sp_relative: String) -> Self {
        let sp = settings.service_provider.clone();
        let absolute = sp.as_ref().map(|sp| format!("//{sp}{sp_relative}"));
        Self { sp_relative: Some(sp_relative), absolute, sp, ..Self::default() }
    }

    /// Returns the AE-ID-Stem under which records store the registrant.
    pub(crate) fn stem_of_registrant(&self) -> Option<&str> {
        self.registered.as_ref().map(|(stem, _)| stem.as_str())
    }

    /// Returns its registrant, if known.
    pub(crate) fn own_registrant(&self) -> Option<&str> {
        self.registered.as_ref().and_then(|(_, registrant)| registrant.as_deref())
    }

    /// Returns whether the originator is the AE whose registrant a record stores. `known` is the
    /// registrant of its stem in the record. If the originator is not registered here, like an AE
    /// of another CSE, its CSE is trusted.
    pub(crate) fn is_registrant(&self, known: Option<&str>) -> bool {
        let Some((_, registrant)) = &self.registered else { return true };
        match known {
            Some(known) => registrant.as_deref() == Some(known),
            None => self.stem.is_none() && registrant.is_none(),
        }
    }

    /// Returns the registration or announcement of the originator at this CSE, as an attribute names
    /// it. An AE without a registrant has none.
    pub(crate) fn registration(&self, settings: &Settings) -> Option<Reference> {
        let (ri, registrant) = match &self.registered {
            Some((stem, registrant)) => {
                let is_here = self.stem.is_some();
                let ri = if is_here { stem.clone() } else { ae_announcement::ri_of(stem) };
                (ri, Some(registrant.clone()?))
            }
            None => (remote_cse::ri_of(&settings.own_cse(self.sp_relative.as_deref()?)?), None),
        };
        Some(Reference { ri, registrant, below: None })
    }

    /// Returns whether an entry names this originator. The entry was accepted by
    /// [`check_originator_pattern`](crate::identifiers::check_originator_pattern). `known` is the
    /// registrant that the record stores for its AE-ID.
    pub(crate) fn is_named_by(&self, entry: &str, known: Option<&str>) -> bool {
        let anybody = self.sp_relative.is_some() || self.absolute.is_some();
        let (form, is_absolute) = match entry {
            ALL => return anybody,
            _ if entry.starts_with("//") => (&self.absolute, true),
            _ if entry.starts_with('/') => (&self.sp_relative, false),
            _ if is_stem(entry) => (&self.stem, false),
            domain => return self.sp.as_ref().is_some_and(|sp| sp.eq_ignore_ascii_case(domain)),
        };
        // A pattern denotes every originator that it matches.
        form.as_ref().is_some_and(|form| fits(entry, form, is_absolute))
            && (entry.contains('*') || self.is_registrant(known))
    }

    /// Returns whether `id` is an identifier of this originator. It has no wildcards.
    pub(crate) fn is(&self, id: &str) -> bool {
        [&self.stem, &self.sp_relative, &self.absolute].into_iter().flatten().any(|own| own == id)
    }
}

/// Returns whether an identifier with wildcards matches one without. A `*` does not match a `/`.
/// Domain names are compared without case.
fn fits(pattern: &str, id: &str, is_absolute: bool) -> bool {
    if pattern.split('/').count() != id.split('/').count() {
        return false;
    }
    pattern.split('/').zip(id.split('/')).enumerate().all(|(at, (pattern, segment))| {
        if is_absolute && at == 2 {
            wildcard::fits(&pattern.to_ascii_lowercase(), &segment.to_ascii_lowercase())
        } else {
            wildcard::fits(pattern, segment)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identifiers::{check_id, check_originator_pattern};
    use crate::testing::settings;
    use proptest::prelude::*;
    use saegis_onem2m::id::MAX_LEN;

    /// Registrant of the AEs in the tests.
    const ONE: &str = "12-one";

    fn one() -> Option<String> {
        Some(ONE.into())
    }

    #[test]
    fn ae_matches_each_identifier_form() {
        let ae = Identity::of_ae(&settings(), "Clight-AE1", one());
        for entry in [
            "all",
            "Clight-AE1",
            "Clight*",
            "C*",
            "C*-AE*",
            "/mn-cse-123456/Clight-AE1",
            "/mn-*/C*",
            "/mn-cse-123456/*1",
            "//in.provider.com/mn-cse-123456/Clight-AE1",
            "//IN.Provider.com/mn-cse-123456/Clight-AE1",
            "//*/mn-cse-123456/C*1",
            "in.provider.com",
            "IN.provider.com",
        ] {
            assert_eq!(check_originator_pattern(entry), Ok(()), "{entry}");
            assert!(ae.is_named_by(entry, Some(ONE)), "{entry}");
        }
        for entry in [
            "Clight-AE2",
            "Clight-AE",
            "Clight-AE1x",
            "S*",
            "C*2",
            "/mn-cse-123456",
            "/other/Clight-AE1",
            "/Clight-AE1",
            "/*",
            "//in.provider.com/*",
            "//in.provider.com/other/Clight-AE1",
            "//*.com/mn-cse-123456/Clight-AE2",
            "provider.com",
            "other.provider.com",
        ] {
            assert_eq!(check_originator_pattern(entry), Ok(()), "{entry}");
            assert!(!ae.is_named_by(entry, Some(ONE)), "{entry}");
        }
    }

    #[test]
    fn s_type_stem_has_no_cse() {
        let ae = Identity::of_ae(&settings(), "Slight", one());
        for entry in ["Slight", "S*", "/Slight", "/S*", "//in.provider.com/Slight"] {
            assert!(ae.is_named_by(entry, Some(ONE)), "{entry}");
        }
        assert!(!ae.is_named_by("/mn-cse-123456/Slight", Some(ONE)));
        // An AE elsewhere is not an AE of this CSE, although its stem may look the same.
        let elsewhere = Identity::announced(&settings(), "Slight", None);
        assert!(elsewhere.is_named_by("/Slight", None));
        assert!(!elsewhere.is_named_by("/Slight", Some(ONE)));
        let same = Identity::announced(&settings(), "Slight", one());
        assert!(same.is_named_by("/Slight", Some(ONE)) && !same.is_named_by("/Slight", None));
        for entry in ["Slight", "S*"] {
            assert!(!elsewhere.is_named_by(entry, Some(ONE)), "{entry}");
        }
    }

    #[test]
    fn equal_name_of_other_registrant_does_not_match() {
        let entries = ["Clight-AE1", "/mn-cse-123456/Clight-AE1"];
        for registrant in [Some("12-two".into()), None] {
            let other = Identity::of_ae(&settings(), "Clight-AE1", registrant);
            for entry in entries {
                assert!(!other.is_named_by(entry, Some(ONE)), "{entry}");
            }
            for set in ["C*", "/mn-*/C*", "all", "in.provider.com"] {
                assert!(other.is_named_by(set, Some(ONE)), "{set}");
            }
        }
        // An awaited AE has not registered yet.
        let own = Identity::of_ae(&settings(), "Clight-AE1", one());
        assert!(!entries.iter().any(|entry| own.is_named_by(entry, None)));
    }

    #[test]
    fn remote_entity_differs_from_local_one() {
        let cse = Identity::elsewhere(&settings(), None, "in-cse");
        let ae = Identity::elsewhere(&settings(), None, "in-cse/Capp");
        let other = Identity::elsewhere(&settings(), Some("b.com"), "in-cse");
        for entry in ["/in-cse", "/in*", "//in.provider.com/in-cse", "in.provider.com", "all"] {
            assert!(cse.is_named_by(entry, Some(ONE)), "{entry}");
            assert!(!other.is_named_by(entry, Some(ONE)) || entry == "all", "{entry}");
        }
        for entry in ["/in-cse/Capp", "/in-*/C*", "//*/in-cse/Capp"] {
            assert!(ae.is_named_by(entry, Some(ONE)), "{entry}");
            assert!(!cse.is_named_by(entry, Some(ONE)), "{entry}");
        }
        for entry in ["Capp", "C*", "/mn-cse-123456/Capp", "/in-cse"] {
            assert!(!ae.is_named_by(entry, Some(ONE)), "{entry}");
        }
        for entry in ["//b.com/in-cse", "//*/in-cse", "b.com"] {
            assert!(other.is_named_by(entry, Some(ONE)), "{entry}");
        }
        // The name of the service provider must be known to match.
        let nameless = Settings { service_provider: None, ..settings() };
        let cse = Identity::elsewhere(&nameless, None, "in-cse");
        assert!(cse.is_named_by("/in-cse", Some(ONE)));
        assert!(!cse.is_named_by("//in.provider.com/in-cse", Some(ONE)));
        assert!(!cse.is_named_by("in.provider.com", Some(ONE)));
    }

    #[test]
    fn unknown_entity_matches_no_entry() {
        for entry in ["all", "C*", "/*", "//*/*", "a.b"] {
            assert!(!Identity::default().is_named_by(entry, Some(ONE)), "{entry}");
        }
    }

    #[test]
    fn invalid_originator_entry_is_refused() {
        for bad in [
            "",
            "*",
            "everybody",
            "C",
            "S",
            "C/x",
            "/",
            "//",
            "//a.b",
            "///",
            "/a/b",
            "/a/Cx/y",
            "//a.b/c/d/Cx",
            "//a.b/c/d",
            "*.provider.com",
            "@role.com",
            "guest@ROLE.com",
            "guest*@role.com",
            "C x",
            "/cse/cnt\u{e9}",
            &"C".repeat(MAX_LEN + 1),
        ] {
            assert!(check_originator_pattern(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn identifier_is_canonicalized() {
        let canonical = |text| settings().canonical_id(text);
        assert_eq!(canonical("//IN.provider.com/mn/Cx"), "/mn/Cx");
        assert_eq!(canonical("//in.provider.com/mn"), "/mn");
        assert_eq!(canonical("//B.com/mn/Cx"), "//b.com/mn/Cx");
        assert_eq!(canonical("Cx"), "Cx");
        assert!(
            Identity::of_ae(&settings(), "Cx", one())
                .is(&canonical("//in.provider.com/mn-cse-123456/Cx"))
        );
        for bad in ["C", "S", "/mn/S", "", "light", "C*", "all", "a.b"] {
            assert!(check_id(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn originator_pattern_matches_its_expansion(parts in prop::collection::vec("[a-z]{0,4}", 1..6), between in "[a-z]{0,4}") {
            prop_assert!(wildcard::fits(&parts.join("*"), &parts.join(&between)));
        }

        #[test]
        fn arbitrary_entry_does_not_panic(pattern in ".{0,40}", stem in "[CS][a-z/*]{1,20}") {
            let _ = check_originator_pattern(&pattern);
            let _ = Identity::of_ae(&settings(), &stem, one()).is_named_by(&pattern, Some(ONE));
        }
    }
}
