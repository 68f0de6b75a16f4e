//! The wildcards of a `<serviceSubscribedAppRule>` (TS-0001 clause 9.6.29, TS-0004 clause 7.4.29),
//! which states which credential may register which AE under which App-ID.

use crate::wildcard::fits;

/// Returns whether an entry of allowedAEs allows the From of a registration.
///
/// The From is an AE-ID-Stem, or requests one (`C`, `S` or absent). An assigned stem can be any of
/// its type, so the entry must cover the whole type. If From is absent, the registrar CSE assigns a
/// C-type stem.
#[must_use]
pub fn allows_ae(entry: &str, from: Option<&str>) -> bool {
    match from {
        None | Some("C") => matches!(entry, "*" | "C*"),
        Some("S") => matches!(entry, "*" | "S*"),
        Some(stem) => fits(entry, stem),
    }
}

/// Returns whether an entry is valid in allowedApp-IDs: it starts with `R`, `N` or an asterisk.
#[must_use]
pub fn may_be_an_app_id(entry: &str) -> bool {
    entry.starts_with(['R', 'N', '*'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assigned_ae_id_requires_wildcard_entry() {
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
