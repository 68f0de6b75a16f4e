//! The syntax of names and identifiers (TS-0001 clause 7.2).

use saegis_onem2m::id::{AeIdStem, MAX_LEN, OriginatorId, check_fqdn};
use saegis_onem2m::role::RoleId;

/// Maximum length of a resource name, in bytes, so that a request can carry the structured address
/// of the deepest resource.
pub(crate) const MAX_NAME: usize = 100;

/// Reserved names: virtual resources, the `<CSEBase>`, and the prefixes of paths that are not
/// CSE-relative.
const RESERVED: [&str; 10] = ["-", "_", "~", ".", "..", "la", "ol", "fopt", "sfop", "pcu"];

/// The reason why a text is not a resource name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// The text is empty or too long.
    #[error("must have 1 to {MAX_NAME} characters")]
    Length,
    /// The text has a character that is not unreserved in RFC 3986.
    #[error("has the invalid character {0:?}")]
    Character(char),
    /// The name is reserved.
    #[error("is a reserved name")]
    Reserved,
}

/// Checks that `text` is a valid resource name (TS-0001 clause 7.2).
pub(crate) fn check_name(text: &str) -> Result<(), NameError> {
    if text.is_empty() || text.len() > MAX_NAME {
        return Err(NameError::Length);
    }
    let unreserved = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '~');
    if let Some(bad) = text.chars().find(|c| !unreserved(*c)) {
        return Err(NameError::Character(bad));
    }
    if RESERVED.contains(&text) { Err(NameError::Reserved) } else { Ok(()) }
}

/// Entry that denotes all originators.
pub(crate) const ALL: &str = "all";

pub(crate) fn is_stem(text: &str) -> bool {
    text.len() >= 2 && text.starts_with(['C', 'S'])
}

/// Checks an entry of a list of originators: `all`, a domain name, an AE-ID or CSE-ID in any of its
/// forms, with wildcards, or a Role-ID.
///
/// # Errors
/// Returns a description of valid entries.
pub(crate) fn check_originator_pattern(entry: &str) -> Result<(), String> {
    let wrong = || {
        Err("must name originators: all, a domain name, an AE-ID or CSE-ID in one of its forms, or \
             a Role-ID"
            .to_owned())
    };
    let part = |text: &str| {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._~*".contains(&b);
        !text.is_empty() && text.bytes().all(allowed)
    };
    let stem = |text: &str| part(text) && is_stem(text);
    let ae = |text: &str| stem(text) || part(text) && text.starts_with('*');
    if entry.len() > MAX_LEN {
        return wrong();
    }
    let good = if let Some(absolute) = entry.strip_prefix("//") {
        match absolute.split('/').collect::<Vec<_>>().as_slice() {
            [sp, first] => part(sp) && part(first),
            [sp, cse, stem] => part(sp) && part(cse) && ae(stem),
            _ => false,
        }
    } else if let Some(relative) = entry.strip_prefix('/') {
        match relative.split('/').collect::<Vec<_>>().as_slice() {
            [first] => part(first),
            [cse, stem] => part(cse) && ae(stem),
            _ => false,
        }
    } else {
        entry == ALL
            || stem(entry)
            || (entry.contains('.') && check_fqdn(entry).is_ok())
            || RoleId::check(entry).is_ok()
    };
    if good { Ok(()) } else { wrong() }
}

/// Checks the identifier of one AE or CSE, without wildcards.
///
/// # Errors
/// Returns a description of valid identifiers.
pub(crate) fn check_id(text: &str) -> Result<(), String> {
    match OriginatorId::parse(text) {
        Ok(
            OriginatorId::AssignByRegistrar
            | OriginatorId::AssignByServiceProvider
            | OriginatorId::SpRelativeAssign { .. },
        )
        | Err(_) => Err("must be an AE-ID or a CSE-ID".into()),
        Ok(_) => Ok(()),
    }
}

/// Returns whether a part of an identifier could be an S-type AE-ID-Stem.
pub(crate) fn may_be_ae(bare: &str) -> bool {
    bare.starts_with('S') && AeIdStem::check(bare).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unreserved_characters() {
        for good in ["light", "a", "A-1._~", "la2", "--", &"x".repeat(MAX_NAME)] {
            assert_eq!(check_name(good), Ok(()), "{good}");
        }
        for reserved in RESERVED {
            assert_eq!(check_name(reserved), Err(NameError::Reserved), "{reserved}");
        }
        assert_eq!(check_name(""), Err(NameError::Length));
        assert_eq!(check_name(&"x".repeat(MAX_NAME + 1)), Err(NameError::Length));
        for bad in ["a/b", "a b", "é", "a%20", "a\0"] {
            assert!(matches!(check_name(bad), Err(NameError::Character(_))), "{bad:?}");
        }
    }
}
