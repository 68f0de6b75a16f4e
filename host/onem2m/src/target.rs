//! The To of a request as TS-0009 clause 6.2.2.1 writes it into a path, brought to one form.
//!
//! Policy, routing and the upstream must see the same target, so a path is decoded once, here,
//! and anything that two readers could take for two things is refused: empty segments, dot
//! segments, escaped slashes, escapes of escapes, characters that no resource name has.

use percent_encoding::percent_decode_str;

use crate::id::{CseId, check_fqdn};

/// Longest path, in bytes.
pub const MAX_PATH: usize = 2048;

/// Which CSE a target is at, as the originator wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// The CSE that the request is sent to.
    CseRelative,
    /// A CSE of the same service provider.
    SpRelative(CseId),
    /// A CSE of any service provider.
    Absolute {
        /// The service provider's domain name.
        sp: String,
        /// The CSE.
        cse: CseId,
    },
}

/// The target of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Which CSE it is at.
    pub scope: Scope,
    /// The resource there: segments joined by `/`, without a leading one, of unreserved
    /// characters only. `-` stands for the CSEBase.
    pub resource: String,
}

/// Why a path names no target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// Longer than [`MAX_PATH`].
    #[error("the path is longer than {MAX_PATH} bytes")]
    TooLong,
    /// It does not start with `/`, or nothing follows.
    #[error("the path names no resource")]
    NoResource,
    /// Two slashes in a row, or one at the end.
    #[error("the path has an empty segment")]
    EmptySegment,
    /// `.` or `..`, however escaped.
    #[error("the path has a dot segment")]
    DotSegment,
    /// A character that no resource name and no identifier has.
    #[error("the path has a character that no oneM2M name has")]
    Character,
    /// `/~/` without a CSE-ID, or `/_/` without a service provider and a CSE-ID.
    #[error("the path starts like an SP-relative or absolute address, but is none")]
    Scope,
}

impl Target {
    /// Reads a path: `/x` is CSE-relative, `/~/CSE/x` SP-relative, `/_/sp/CSE/x` absolute.
    ///
    /// # Errors
    /// Why it names no target.
    pub fn from_path(path: &str) -> Result<Self, TargetError> {
        if path.len() > MAX_PATH {
            return Err(TargetError::TooLong);
        }
        let path = path.strip_prefix('/').ok_or(TargetError::NoResource)?;
        if path.is_empty() {
            return Err(TargetError::NoResource);
        }
        let segments = path.split('/').map(segment).collect::<Result<Vec<_>, _>>()?;
        let cse = |text: &str| CseId::parse(text).map_err(|_| TargetError::Scope);
        let (scope, rest) = match segments.as_slice() {
            [tilde, id, rest @ ..] if tilde == "~" => (Scope::SpRelative(cse(id)?), rest),
            [underscore, sp, id, rest @ ..] if underscore == "_" => {
                check_fqdn(sp).map_err(|_| TargetError::Scope)?;
                (Scope::Absolute { sp: sp.to_ascii_lowercase(), cse: cse(id)? }, rest)
            }
            [first, ..] if first == "~" || first == "_" => return Err(TargetError::Scope),
            all => (Scope::CseRelative, all),
        };
        // Behind the scope these are no names: a CSE that looks for them anywhere would find
        // another target than we did.
        if rest.iter().any(|segment| segment == "~" || segment == "_") {
            return Err(TargetError::Scope);
        }
        // A CSE-ID alone addresses its CSEBase.
        let resource = if rest.is_empty() { "-".into() } else { rest.join("/") };
        Ok(Self { scope, resource })
    }

    /// Reads an address as attributes hold it, and as the To parameter writes it: `x` is
    /// CSE-relative, `/CSE/x` SP-relative, `//sp/CSE/x` absolute (TS-0001 clause 7.2).
    ///
    /// # Errors
    /// Why it names no target.
    pub fn from_address(address: &str) -> Result<Self, TargetError> {
        // Escapes are of paths: an address has none.
        if address.contains('%') {
            return Err(TargetError::Character);
        }
        if let Some(rest) = address.strip_prefix("//") {
            Self::from_path(&format!("/_/{rest}"))
        } else if address.starts_with('/') {
            Self::from_path(&format!("/~{address}"))
        } else {
            let target = Self::from_path(&format!("/{address}"))?;
            // What a path means by a first segment of its own, no address does.
            if target.scope == Scope::CseRelative { Ok(target) } else { Err(TargetError::Scope) }
        }
    }

    /// Whether the target is at the CSE `own`, whose service provider's name is `sp` if known.
    #[must_use]
    pub fn is_at(&self, own: &CseId, own_sp: Option<&str>) -> bool {
        match &self.scope {
            Scope::CseRelative => true,
            Scope::SpRelative(cse) => cse == own,
            Scope::Absolute { sp, cse } => {
                cse == own && own_sp.is_some_and(|own_sp| own_sp.eq_ignore_ascii_case(sp))
            }
        }
    }

    /// The one form in which a request goes on to the CSE `at`: SP-relative. It can address
    /// nothing but resources of that CSE, whatever else the CSE's HTTP server has to offer.
    #[must_use]
    pub fn to_path(&self, at: &CseId) -> String {
        format!("/~/{}/{}", at.bare(), self.resource)
    }
}

/// As the To parameter writes it.
impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.scope {
            Scope::CseRelative => f.write_str(&self.resource),
            Scope::SpRelative(cse) => write!(f, "{cse}/{}", self.resource),
            Scope::Absolute { sp, cse } => write!(f, "//{sp}{cse}/{}", self.resource),
        }
    }
}

fn segment(raw: &str) -> Result<String, TargetError> {
    if raw.is_empty() {
        return Err(TargetError::EmptySegment);
    }
    let decoded = percent_decode_str(raw).decode_utf8().map_err(|_| TargetError::Character)?;
    if decoded == "." || decoded == ".." {
        return Err(TargetError::DotSegment);
    }
    // After one decoding nothing may be left that a second one would change, and no slash that
    // was hidden from the split.
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
    if decoded.bytes().all(allowed) {
        Ok(decoded.into_owned())
    } else {
        Err(TargetError::Character)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn own() -> CseId {
        CseId::parse("mn-cse-123456").unwrap()
    }

    #[test]
    fn every_spelling_comes_to_one_form() {
        for path in [
            "/cse/light",
            "/~/mn-cse-123456/cse/light",
            "/_/in.provider.com/mn-cse-123456/cse/light",
            "/_/IN.provider.com/mn-cse-123456/cse/light",
            "/%63se/%6cight",
            "/%63se/%6Cight",
            "/%7e/mn-cse-123456/cse/light",
        ] {
            let target = Target::from_path(path).unwrap();
            assert!(target.is_at(&own(), Some("in.provider.com")), "{path}");
            assert_eq!(target.to_path(&own()), "/~/mn-cse-123456/cse/light", "{path}");
        }
    }

    #[test]
    fn other_cses_are_told_apart() {
        for path in ["/~/other/x", "/_/in.provider.com/other/x", "/_/elsewhere.com/mn-cse-123456/x"]
        {
            assert!(
                !Target::from_path(path).unwrap().is_at(&own(), Some("in.provider.com")),
                "{path}"
            );
        }
        let absolute = Target::from_path("/_/a.b/mn-cse-123456/x").unwrap();
        assert!(!absolute.is_at(&own(), None));
    }

    #[test]
    fn confusions_are_refused() {
        use TargetError as E;
        for (path, why) in [
            ("", E::NoResource),
            ("/", E::NoResource),
            ("x", E::NoResource),
            ("//x", E::EmptySegment),
            ("/x/", E::EmptySegment),
            ("/x//y", E::EmptySegment),
            ("/x/../y", E::DotSegment),
            ("/x/%2E%2e/y", E::DotSegment),
            ("/./x", E::DotSegment),
            ("/x%2Fy", E::Character),
            ("/x%252Fy", E::Character),
            ("/x%00", E::Character),
            ("/x;y", E::Character),
            ("/x\\y", E::Character),
            ("/%ff", E::Character),
            ("/~", E::Scope),
            ("/_/a.b", E::Scope),
            ("/_/-/c/x", E::Scope),
            ("/~/mn-cse-123456/~/other/x", E::Scope),
            ("/x/_/y", E::Scope),
        ] {
            assert_eq!(Target::from_path(path), Err(why), "{path}");
        }
        assert_eq!(Target::from_path(&format!("/{}", "x".repeat(MAX_PATH))), Err(E::TooLong));
    }

    #[test]
    fn a_cse_id_alone_is_its_csebase() {
        assert_eq!(Target::from_path("/~/mn-cse-123456").unwrap().resource, "-");
    }

    #[test]
    fn addresses_are_read_as_they_are_written() {
        for address in ["cse/light", "-", "/other/cse/light", "//a.b/other/Clight", "/other/-"] {
            assert_eq!(Target::from_address(address).unwrap().to_string(), address);
        }
        assert_eq!(Target::from_address("/other").unwrap().to_string(), "/other/-");
        for bad in ["", "/", "//", "//a.b", "a//b", "~/c/x", "_/a.b/c/x", "%63se", "a/../b", "a b"]
        {
            assert!(Target::from_address(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn the_one_form_reads_as_itself(path in "(/[A-Za-z0-9._~%-]{1,6}){1,6}") {
            if let Ok(target) = Target::from_path(&path) {
                let written = target.to_path(&own());
                let again = Target::from_path(&written).unwrap();
                prop_assert_eq!(&again.resource, &target.resource);
                prop_assert_eq!(again.to_path(&own()), written);
            }
        }

        #[test]
        fn no_path_panics(path in ".{0,200}") {
            let _ = Target::from_path(&path);
        }
    }
}
