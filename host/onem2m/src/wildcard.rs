//! Wildcard patterns of service subscription rules, access control policies and filters.

/// Returns whether a text matches a pattern, in which `*` stands for zero or more characters.
#[must_use]
pub fn fits(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(first) else { return false };
    let mut parts = rest.split('*');
    // `split` yields at least one part, which is empty if the asterisk ends the pattern.
    let last = parts.next_back().unwrap_or_default();
    for part in parts {
        match text.find(part) {
            // The leftmost match leaves the longest remainder for the parts that follow.
            Some(at) => text = text.get(at + part.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    text.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asterisk_matches_any_characters() {
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
}
