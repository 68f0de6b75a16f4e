//! The To of a request, normalized from an HTTP path (TS-0009 clause 6.2.2.1).
//!
//! Policy, routing and the upstream CSE must see the same target, so a path is decoded once, here.
//! An ambiguous path is rejected: empty segments, dot segments, escaped slashes, escapes of
//! escapes, and characters that resource names do not have.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use crate::id::{CseId, check_fqdn};

/// Maximum length of a path, in bytes.
pub const MAX_PATH: usize = 2048;

/// The CSE part of a target, as the originator wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// The CSE that receives the request.
    CseRelative,
    /// A CSE of the same service provider.
    SpRelative(CseId),
    /// A CSE of any service provider.
    Absolute {
        /// Domain name of the service provider.
        sp: String,
        /// CSE-ID.
        cse: CseId,
    },
}

/// The target of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// CSE part.
    pub scope: Scope,
    /// Resource: segments of unreserved characters joined by `/`, without a leading slash. `-`
    /// stands for the CSEBase.
    pub resource: String,
}

/// The reason why a path is not a target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// The path is longer than [`MAX_PATH`].
    #[error("the path is longer than {MAX_PATH} bytes")]
    TooLong,
    /// The path does not start with `/`, or consists of it.
    #[error("the path names no resource")]
    NoResource,
    /// The path has two consecutive slashes or ends with one.
    #[error("the path has an empty segment")]
    EmptySegment,
    /// The path has a segment `.` or `..`, escaped or not.
    #[error("the path has a dot segment")]
    DotSegment,
    /// The path has a character that neither resource names nor identifiers have.
    #[error("the path has a character that is not allowed in oneM2M names")]
    Character,
    /// The path has `/~/` without a CSE-ID, or `/_/` without a service provider and a CSE-ID.
    #[error("the path starts like an SP-relative or absolute address, but is not one")]
    Scope,
}

impl Target {
    /// Parses a path: `/x` is CSE-relative, `/~/CSE/x` SP-relative, `/_/sp/CSE/x` absolute.
    ///
    /// # Errors
    /// Returns the reason why `path` is not a target.
    pub fn from_path(path: &str) -> Result<Self, TargetError> {
        if path.len() > MAX_PATH {
            return Err(TargetError::TooLong);
        }
        let path = path.strip_prefix('/').ok_or(TargetError::NoResource)?;
        if path.is_empty() {
            return Err(TargetError::NoResource);
        }
        let segments = path.split('/').map(decode).collect::<Result<Vec<_>, _>>()?;
        Self::from_decoded(&segments.iter().map(AsRef::as_ref).collect::<Vec<_>>())
    }

    /// Parses the segments of a path without escapes, as CoAP has them.
    ///
    /// # Errors
    /// Returns the reason why they are not a target.
    pub fn from_segments(segments: &[&str]) -> Result<Self, TargetError> {
        if segments.iter().map(|segment| segment.len() + 1).sum::<usize>() > MAX_PATH {
            return Err(TargetError::TooLong);
        }
        if segments.is_empty() {
            return Err(TargetError::NoResource);
        }
        Self::from_decoded(segments)
    }

    fn from_decoded(segments: &[&str]) -> Result<Self, TargetError> {
        segments.iter().try_for_each(|segment| check_segment(segment))?;
        let cse = |text: &str| CseId::parse(text).map_err(|_| TargetError::Scope);
        let (scope, rest) = match segments {
            ["~", id, rest @ ..] => (Scope::SpRelative(cse(id)?), rest),
            ["_", sp, id, rest @ ..] => {
                check_fqdn(sp).map_err(|_| TargetError::Scope)?;
                (Scope::Absolute { sp: sp.to_ascii_lowercase(), cse: cse(id)? }, rest)
            }
            ["~" | "_", ..] => return Err(TargetError::Scope),
            all => (Scope::CseRelative, all),
        };
        // `~` and `_` are not resource names. A CSE that interprets them in any segment would find
        // another target than this function.
        if rest.iter().any(|segment| matches!(*segment, "~" | "_")) {
            return Err(TargetError::Scope);
        }
        // A CSE-ID alone addresses its CSEBase.
        let resource = if rest.is_empty() { "-".into() } else { rest.join("/") };
        Ok(Self { scope, resource })
    }

    /// Parses an address in the form of attributes and of the To parameter: `x` is CSE-relative,
    /// `/CSE/x` SP-relative, `//sp/CSE/x` absolute (TS-0001 clause 7.2).
    ///
    /// # Errors
    /// Returns the reason why `address` is not a target.
    pub fn from_address(address: &str) -> Result<Self, TargetError> {
        // Only paths have escapes.
        if address.contains('%') {
            return Err(TargetError::Character);
        }
        if address.is_empty() {
            return Err(TargetError::NoResource);
        }
        let (scope, rest) = match (address.strip_prefix("//"), address.strip_prefix('/')) {
            (Some(rest), _) => (Some("_"), rest),
            (None, Some(rest)) => (Some("~"), rest),
            // The first segments `~` and `_` have their meaning in paths only.
            (None, None) if address.starts_with("~/") || address.starts_with("_/") => {
                return Err(TargetError::Scope);
            }
            (None, None) => (None, address),
        };
        Self::from_segments(&scope.into_iter().chain(rest.split('/')).collect::<Vec<_>>())
    }

    /// Returns the segments of the path that addresses the target.
    #[must_use]
    pub fn segments(&self) -> Vec<&str> {
        let mut segments = match &self.scope {
            Scope::CseRelative => Vec::new(),
            Scope::SpRelative(cse) => vec!["~", cse.bare()],
            Scope::Absolute { sp, cse } => vec!["_", sp, cse.bare()],
        };
        segments.extend(self.resource.split('/'));
        segments
    }

    /// Returns whether the target is at the CSE `own`. `own_sp` is the name of its service
    /// provider, if known.
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

    /// Returns the normalized path of a request that is forwarded to the CSE `at`. The path is
    /// SP-relative, so it can address only resources of that CSE, and no other page of its HTTP
    /// server.
    #[must_use]
    pub fn to_path(&self, at: &CseId) -> String {
        format!("/~/{}/{}", at.bare(), self.resource)
    }
}

/// Formats the target as the To parameter.
impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.scope {
            Scope::CseRelative => f.write_str(&self.resource),
            Scope::SpRelative(cse) => write!(f, "{cse}/{}", self.resource),
            Scope::Absolute { sp, cse } => write!(f, "//{sp}{cse}/{}", self.resource),
        }
    }
}

fn decode(raw: &str) -> Result<Cow<'_, str>, TargetError> {
    percent_decode_str(raw).decode_utf8().map_err(|_| TargetError::Character)
}

fn check_segment(segment: &str) -> Result<(), TargetError> {
    if segment.is_empty() {
        return Err(TargetError::EmptySegment);
    }
    if segment == "." || segment == ".." {
        return Err(TargetError::DotSegment);
    }
    // A second decoding must not change the text, and no slash may be hidden from the split.
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
    if segment.bytes().all(allowed) { Ok(()) } else { Err(TargetError::Character) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn own() -> CseId {
        CseId::parse("mn-cse-123456").unwrap()
    }

    #[test]
    fn address_spellings_are_normalized() {
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
    fn cse_id_alone_is_csebase() {
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

    /// CoAP has raw text in its segments, so a slash or an escape there is a character.
    #[test]
    fn segments_have_no_escapes() {
        use TargetError as E;
        for path in ["/cse/light", "/~/other/cse/light", "/_/a.b/other/x", "/~/other/-"] {
            let target = Target::from_path(path).unwrap();
            assert_eq!(format!("/{}", target.segments().join("/")), path);
            assert_eq!(Target::from_segments(&target.segments()), Ok(target));
        }
        for (segments, why) in [
            (&[][..], E::NoResource),
            (&[""], E::EmptySegment),
            (&["x", ""], E::EmptySegment),
            (&["x/y"], E::Character),
            (&["x", "%2e%2e"], E::Character),
            (&["x%2Fy"], E::Character),
            (&["..", "x"], E::DotSegment),
            (&["~"], E::Scope),
            (&["x", "~", "y"], E::Scope),
            (&["é"], E::Character),
        ] {
            assert_eq!(Target::from_segments(segments), Err(why), "{segments:?}");
        }
        assert_eq!(Target::from_segments(&["x".repeat(MAX_PATH).as_str()]), Err(E::TooLong));
    }

    proptest! {
        #[test]
        fn normalized_address_round_trips(path in "(/[A-Za-z0-9._~%-]{1,6}){1,6}") {
            if let Ok(target) = Target::from_path(&path) {
                let written = target.to_path(&own());
                let again = Target::from_path(&written).unwrap();
                prop_assert_eq!(&again.resource, &target.resource);
                prop_assert_eq!(again.to_path(&own()), written);
            }
        }

        #[test]
        fn arbitrary_path_does_not_panic(path in ".{0,200}") {
            let _ = Target::from_path(&path);
        }
    }
}
