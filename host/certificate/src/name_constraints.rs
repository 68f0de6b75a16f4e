//! Name constraints (RFC 5280 clause 4.2.1.10) for the names of the profile.
//!
//! The profile constrains the issuers of AE-ID certificates (TS-0003 clause 10.1.1) by the host of
//! an identifier such as `//in.provider.com/mn-1/Clight`. webpki does not support URI constraints,
//! and rejects every URI under one. A certificate that it rejects for this reason alone is checked
//! here, with all names of the whole chain. Unsupported constraints count as violations.

use x509_parser::asn1_rs::{Any, Class, FromDer as _, Tag};
use x509_parser::extensions::GeneralName;

/// The name constraints of a certificate.
#[derive(Debug, Default)]
pub(crate) struct Constraints<'a> {
    pub permitted: Vec<GeneralName<'a>>,
    pub excluded: Vec<GeneralName<'a>>,
}

impl<'a> Constraints<'a> {
    /// Parses the name constraints. Returns `None` if anything violates RFC 5280. x509-parser skips
    /// an unreadable list, which would leave no constraint at all.
    pub fn read(der: &'a [u8]) -> Option<Self> {
        let mut found = Self::default();
        let mut last = None;
        let [whole] = elements(der)?.try_into().ok()?;
        for list in elements(sequence(&whole)?)? {
            let tag = Some(list.tag().0);
            if list.class() != Class::ContextSpecific || !list.header.constructed() || tag <= last {
                return None;
            }
            let names = match tag {
                Some(0) => &mut found.permitted,
                Some(1) => &mut found.excluded,
                _ => return None,
            };
            for tree in elements(list.data)? {
                // The name must not be followed by a minimum or maximum.
                match GeneralName::from_der(sequence(&tree)?) {
                    Ok(([], GeneralName::Invalid(..))) => return None,
                    Ok(([], name)) => names.push(name),
                    _ => return None,
                }
            }
            if names.is_empty() {
                return None;
            }
            last = tag;
        }
        last.is_some().then_some(found)
    }

    pub(crate) fn allow(&self, name: &GeneralName<'_>) -> bool {
        let same_form =
            |base: &&GeneralName<'_>| std::mem::discriminant(*base) == std::mem::discriminant(name);
        let mut of_form = self.permitted.iter().filter(same_form).peekable();
        let allowed =
            of_form.peek().is_none() || of_form.any(|base| within(name, base) == Some(true));
        // An undecidable comparison counts as excluded.
        let forbidden =
            self.excluded.iter().filter(same_form).any(|base| within(name, base) != Some(false));
        allowed && !forbidden
    }
}

/// Returns the content of a SEQUENCE.
fn sequence<'a>(any: &Any<'a>) -> Option<&'a [u8]> {
    let is = any.class() == Class::Universal && any.tag() == Tag::Sequence;
    is.then_some(any.data)
}

/// Parses consecutive elements.
fn elements(mut der: &[u8]) -> Option<Vec<Any<'_>>> {
    let mut all = Vec::new();
    while !der.is_empty() {
        let (rest, any) = Any::from_der(der).ok()?;
        all.push(any);
        der = rest;
    }
    Some(all)
}

/// Returns whether a name is within a constraint of its form; `None` if that is undecidable.
fn within(name: &GeneralName<'_>, constraint: &GeneralName<'_>) -> Option<bool> {
    match (name, constraint) {
        (GeneralName::DNSName(name), GeneralName::DNSName(base)) => dns_within(name, base),
        (GeneralName::URI(uri), GeneralName::URI(base)) => host_within(host(uri)?, base),
        _ => None,
    }
}

/// Returns whether a DNS name equals the constraint, or consists of further labels before it.
fn dns_within(name: &str, base: &str) -> Option<bool> {
    if base.is_empty() {
        return Some(true);
    }
    let end = base.strip_prefix('.').unwrap_or(base);
    if !is_host(name) || !is_host(end) {
        return None;
    }
    if name.eq_ignore_ascii_case(end) {
        // RFC 5280 has no constraint with a leading dot. Implementations disagree whether it
        // includes the name itself.
        return (end == base).then_some(true);
    }
    Some(ends_with_label(name, end))
}

/// Returns whether a host is equal to a constraint, or is below one that starts with a dot.
fn host_within(host: &str, base: &str) -> Option<bool> {
    let end = base.strip_prefix('.').unwrap_or(base);
    if !is_host(end) {
        return None;
    }
    Some(if end == base { host.eq_ignore_ascii_case(base) } else { ends_with_label(host, end) })
}

fn ends_with_label(name: &str, end: &str) -> bool {
    let at = name.len().checked_sub(end.len());
    at.and_then(|at| Some((name.get(..at)?, name.get(at..)?))).is_some_and(|(front, back)| {
        front.len() > 1 && front.ends_with('.') && back.eq_ignore_ascii_case(end)
    })
}

/// Returns whether a text consists of labels, which can be compared.
fn is_host(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    text.split('.').all(|label| !label.is_empty() && label.bytes().all(plain))
}

/// Returns the host of a URI, or of an absolute identifier of oneM2M, which has no scheme. Returns
/// `None` if there is no comparable host, such as for an IP address.
fn host(uri: &str) -> Option<&str> {
    let (scheme, rest) = uri.split_once("//")?;
    // Two slashes that do not follow a scheme belong to a path, as in `urn:x//host`.
    let is_scheme = |name: &str| {
        let letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
        name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.bytes().all(letter)
    };
    if !scheme.is_empty() && !scheme.strip_suffix(':').is_some_and(is_scheme) {
        return None;
    }
    let authority = rest.split(['/', '?', '#']).next()?;
    let is_address = authority.parse::<std::net::Ipv4Addr>().is_ok();
    (is_host(authority) && !is_address).then_some(authority)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uri_is_compared_by_host() {
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
            ("urn:x//in.provider.com", "in.provider.com", None),
            ("urn:x//other.com", "in.provider.com", None),
            ("1://in.provider.com", "in.provider.com", None),
            ("/x//in.provider.com", "in.provider.com", None),
            ("//in.provider.com./mn/Ca", "in.provider.com", None),
            ("//in.provider.com:80/mn/Ca", "in.provider.com", None),
            ("//in.provider.com/mn/Ca", "", None),
            ("//in.provider.com/mn/Ca", ".", None),
            ("//in.provider.com/mn/Ca", "https://in.provider.com", None),
        ] {
            assert_eq!(within(uri, base), expected, "{uri} {base}");
        }
    }

    #[test]
    fn dns_name_is_compared_by_labels() {
        for (name, base, expected) in [
            ("mn-1.in.provider.com", "in.provider.com", Some(true)),
            ("in.provider.com", "in.provider.com", Some(true)),
            ("mn-1.in.provider.com", ".in.provider.com", Some(true)),
            ("in.provider.com", ".in.provider.com", None),
            ("xin.provider.com", "in.provider.com", Some(false)),
            (".in.provider.com", "in.provider.com", None),
            ("in.provider.com.", "in.provider.com", None),
            ("mn-1.IN.provider.com", "in.provider.com", Some(true)),
            ("anything", "", Some(true)),
            ("com", "provider.com", Some(false)),
            ("x.provider.com", "*.provider.com", None),
            ("x.provider.com", ".", None),
        ] {
            assert_eq!(dns_within(name, base), expected, "{name} {base}");
        }
    }

    #[test]
    fn unknown_name_form_is_violation() {
        let of = |permitted: &[_], excluded: &[_]| Constraints {
            permitted: permitted.to_vec(),
            excluded: excluded.to_vec(),
        };
        let ip = GeneralName::IPAddress(&[192, 0, 2, 1]);
        let constraint = [GeneralName::IPAddress(&[192, 0, 2, 0, 255, 255, 255, 0])];
        assert!(!of(&constraint, &[]).allow(&ip));
        assert!(!of(&[], &constraint).allow(&ip));
        assert!(of(&[GeneralName::DNSName("a.b")], &[]).allow(&ip));
        let uri = GeneralName::URI("urn:x");
        assert!(!of(&[GeneralName::URI("a.b")], &[]).allow(&uri));
        assert!(!of(&[], &[GeneralName::URI("a.b")]).allow(&uri));
    }

    #[test]
    fn constraints_are_read_whole_or_not_at_all() {
        let good: &[u8] = b"\x30\x09\xA0\x07\x30\x05\x86\x03a.b";
        let read = Constraints::read(good).unwrap();
        assert_eq!(read.permitted, [GeneralName::URI("a.b")]);
        assert!(read.excluded.is_empty());
        for bad in [
            &b""[..],
            b"\x30\x00",
            // A trailing byte; an empty list; an empty subtree.
            b"\x30\x09\xA0\x07\x30\x05\x86\x03a.b\x00",
            b"\x30\x02\xA0\x00",
            b"\x30\x04\xA0\x02\x30\x00",
            // A name of the wrong class; one that is not text; a minimum after the name.
            b"\x30\x09\xA0\x07\x30\x05\x06\x03a.b",
            b"\x30\x09\xA0\x07\x30\x05\x86\x03\xFF.b",
            b"\x30\x0C\xA0\x0A\x30\x08\x86\x03a.b\x80\x01\x01",
            // A list of another kind; the same list twice; the lists in the wrong order.
            b"\x30\x09\xA2\x07\x30\x05\x86\x03a.b",
            b"\x30\x12\xA0\x07\x30\x05\x86\x03a.b\xA0\x07\x30\x05\x86\x03a.b",
            b"\x30\x12\xA1\x07\x30\x05\x86\x03a.b\xA0\x07\x30\x05\x86\x03a.b",
            // Truncated.
            b"\x30\x09\xA0\x07\x30\x05\x86\x03a.",
        ] {
            assert!(Constraints::read(bad).is_none(), "{bad:?}");
        }
    }
}
