//! Name constraints (RFC 5280 clause 4.2.1.10) on the names that the profile uses.
//!
//! The profile wants the issuers of AE-ID certificates to be constrained (TS-0003 clause 10.1.1),
//! by the host of an identifier such as `//in.provider.com/mn-1/Clight`. webpki has no constraints
//! of URIs, and so refuses every URI under one; what it refuses for that reason alone is judged here,
//! by all names of the whole chain. Whatever is not understood is a violation.

use x509_parser::extensions::{GeneralName, GeneralSubtree};

use crate::rejection::Rejection;
use crate::x509::Read;

/// Checks the names of a chain, the certificate first and its anchor last, by the constraints of
/// each issuer in it.
pub(crate) fn check(chain: &[Read<'_>]) -> Result<(), Rejection> {
    for (at, issuer) in chain.iter().enumerate().skip(1) {
        let constraints = match issuer.certificate.name_constraints() {
            Ok(None) => continue,
            Ok(Some(constraints)) => constraints.value,
            Err(_) => return Err(Rejection::Malformed("its name constraints can't be read")),
        };
        let permitted = constraints.permitted_subtrees.as_deref().unwrap_or_default();
        let excluded = constraints.excluded_subtrees.as_deref().unwrap_or_default();
        let directory =
            |tree: &GeneralSubtree<'_>| matches!(tree.base, GeneralName::DirectoryName(_));
        if permitted.iter().chain(excluded).any(directory) {
            // Each certificate has a subject, and comparing those is not done here.
            return Err(Rejection::NameConstraints);
        }
        for name in chain.iter().take(at).flat_map(|read| &read.names) {
            if !conforms(name, permitted, excluded) {
                return Err(Rejection::NameConstraints);
            }
        }
    }
    Ok(())
}

fn conforms(
    name: &GeneralName<'_>,
    permitted: &[GeneralSubtree<'_>],
    excluded: &[GeneralSubtree<'_>],
) -> bool {
    let same_form = |tree: &&GeneralSubtree<'_>| {
        std::mem::discriminant(&tree.base) == std::mem::discriminant(name)
    };
    let mut of_form = permitted.iter().filter(same_form).peekable();
    let allowed =
        of_form.peek().is_none() || of_form.any(|tree| within(name, &tree.base) == Some(true));
    // What can't be told to be outside counts as inside.
    let forbidden =
        excluded.iter().filter(same_form).any(|tree| within(name, &tree.base) != Some(false));
    allowed && !forbidden
}

/// Whether a name is within a constraint of its form; `None` where that can't be told.
fn within(name: &GeneralName<'_>, constraint: &GeneralName<'_>) -> Option<bool> {
    match (name, constraint) {
        (GeneralName::DNSName(name), GeneralName::DNSName(base)) => Some(dns_within(name, base)),
        (GeneralName::URI(uri), GeneralName::URI(base)) => {
            host(uri).map(|host| host_within(host, base))
        }
        _ => None,
    }
}

/// A DNS name fits a constraint if labels may be put in front of the constraint to make it.
fn dns_within(name: &str, base: &str) -> bool {
    let base = base.strip_prefix('.').unwrap_or(base);
    base.is_empty() || name.eq_ignore_ascii_case(base) || ends_with_label(name, base)
}

/// A host fits a constraint that is a host by being it, and one that starts with a dot by being below.
fn host_within(host: &str, base: &str) -> bool {
    match base.strip_prefix('.') {
        Some(below) => ends_with_label(host, below),
        None => host.eq_ignore_ascii_case(base),
    }
}

fn ends_with_label(name: &str, end: &str) -> bool {
    let at = name.len().checked_sub(end.len());
    at.and_then(|at| Some((name.get(..at)?, name.get(at..)?))).is_some_and(|(front, back)| {
        front.len() > 1 && front.ends_with('.') && back.eq_ignore_ascii_case(end)
    })
}

/// The host of a URI, or of an absolute identifier of oneM2M, which has no scheme. None where there
/// is no host that could be compared, such as an address.
fn host(uri: &str) -> Option<&str> {
    let (_, rest) = uri.split_once("//")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    let is_address = authority.parse::<std::net::Ipv4Addr>().is_ok();
    (!authority.is_empty() && authority.chars().all(plain) && !is_address).then_some(authority)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_is_compared_by_its_host() {
        let within = |uri, base| within(&GeneralName::URI(uri), &GeneralName::URI(base));
        for (uri, base, expected) in [
            ("//in.provider.com/mn/Ca", "in.provider.com", Some(true)),
            ("//IN.provider.com/mn/Ca", "in.provider.com", Some(true)),
            ("https://in.provider.com/x", "in.provider.com", Some(true)),
            ("//x.in.provider.com/mn/Ca", "in.provider.com", Some(false)),
            ("//in.provider.com/mn/Ca", ".provider.com", Some(true)),
            ("//provider.com/mn/Ca", ".provider.com", Some(false)),
            ("//evilprovider.com/mn/Ca", ".provider.com", Some(false)),
            ("//in.provider.com.evil.com/mn/Ca", "in.provider.com", Some(false)),
            ("//evil.com/in.provider.com/Ca", "in.provider.com", Some(false)),
            ("//evil.com@in.provider.com/Ca", "in.provider.com", None),
            ("//192.0.2.1/mn/Ca", "in.provider.com", None),
            ("urn:x", "in.provider.com", None),
            ("//", "in.provider.com", None),
        ] {
            assert_eq!(within(uri, base), expected, "{uri} {base}");
        }
    }

    #[test]
    fn a_dns_name_is_compared_by_labels() {
        for (name, base, expected) in [
            ("mn-1.in.provider.com", "in.provider.com", true),
            ("in.provider.com", "in.provider.com", true),
            ("in.provider.com", ".in.provider.com", true),
            ("xin.provider.com", "in.provider.com", false),
            (".in.provider.com", "in.provider.com", false),
            ("mn-1.IN.provider.com", "in.provider.com", true),
            ("anything", "", true),
            ("com", "provider.com", false),
        ] {
            assert_eq!(dns_within(name, base), expected, "{name} {base}");
        }
    }

    #[test]
    fn what_is_not_understood_is_a_violation() {
        let tree = |base| GeneralSubtree { base };
        let ip = GeneralName::IPAddress(&[192, 0, 2, 1]);
        let constraint = [tree(GeneralName::IPAddress(&[192, 0, 2, 0, 255, 255, 255, 0]))];
        assert!(!conforms(&ip, &constraint, &[]));
        assert!(!conforms(&ip, &[], &constraint));
        assert!(conforms(&ip, &[tree(GeneralName::DNSName("a.b"))], &[]));
        let uri = GeneralName::URI("urn:x");
        assert!(!conforms(&uri, &[tree(GeneralName::URI("a.b"))], &[]));
        assert!(!conforms(&uri, &[], &[tree(GeneralName::URI("a.b"))]));
    }
}
