//! The wildcards of a `<serviceSubscribedAppRule>` (TS-0001 clause 9.6.29, TS-0004 clause 7.4.29):
//! which credential may register which AE under which App-ID.

/// Whether a text fits a pattern, in which `*` stands for any characters, be they none.
#[must_use]
pub fn fits(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(first) else { return false };
    let mut parts = rest.split('*');
    // There is at least the empty one behind the only asterisk.
    let last = parts.next_back().unwrap_or_default();
    for part in parts {
        match text.find(part) {
            // The leftmost place leaves the most for what follows.
            Some(at) => text = text.get(at + part.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    text.ends_with(last)
}

/// Whether an entry of allowedAEs allows what a registration's From asks for: an AE-ID-Stem, or to
/// be given one (`C`, `S`, none). One that is given can be any of its kind, so that takes an entry
/// for all of them; where From is absent, this registrar gives a C-type one.
#[must_use]
pub fn allows_ae(entry: &str, from: Option<&str>) -> bool {
    match from {
        None | Some("C") => matches!(entry, "*" | "C*"),
        Some("S") => matches!(entry, "*" | "S*"),
        Some(stem) => fits(entry, stem),
    }
}

/// Whether an entry may stand in allowedApp-IDs: it starts with `R`, `N` or an asterisk.
#[must_use]
pub fn may_be_an_app_id(entry: &str) -> bool {
    entry.starts_with(['R', 'N', '*'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_asterisk_stands_for_anything() {
        for (pattern, fitting, others) in [
            ("C123*X", &["C123X", "C1234X", "C123XX"][..], &["C123", "C12X", "C123Xy", ""][..]),
            ("*", &["", "C", "x*y"], &[]),
            ("C*", &["C", "Clight"], &["", "Slight", "xC"]),
            ("*-Light@a.b", &["12-x-Light@a.b", "-Light@a.b"], &["12-Light@a.bc", "Light@a.b"]),
            ("a*b*c", &["abc", "axbxc", "abbcc"], &["ab", "acb", "abcx"]),
            ("a*a", &["aa", "aba"], &["a", ""]),
            ("a**b", &["ab", "axb"], &["a", "b"]),
            ("Nlight", &["Nlight"], &["Nlight2", "nlight", ""]),
            ("", &[""], &["a"]),
            ("é*", &["é", "éa"], &["e"]),
        ] {
            assert!(fitting.iter().all(|text| fits(pattern, text)), "{pattern} {fitting:?}");
            assert!(!others.iter().any(|text| fits(pattern, text)), "{pattern} {others:?}");
        }
    }

    #[test]
    fn to_be_given_an_ae_id_takes_an_entry_for_all() {
        for (entry, from, allowed) in [
            ("Clight-AE1", Some("Clight-AE1"), true),
            ("Clight-AE1", Some("Clight-AE2"), false),
            ("Clight-*", Some("C"), false),
            ("C*", Some("C"), true),
            ("C*", None, true),
            ("C*", Some("S"), false),
            ("S*", Some("S"), true),
            ("S*", Some("C"), false),
            ("S*", None, false),
            ("*", Some("S"), true),
            ("*", None, true),
            ("C", Some("C"), false),
        ] {
            assert_eq!(allows_ae(entry, from), allowed, "{entry} {from:?}");
        }
    }
}
