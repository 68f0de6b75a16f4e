//! Points of access: the URIs of AEs and other notification targets (TS-0001 clause 9.6.5,
//! pointOfAccess; clause 9.6.8, notificationURI).

use std::fmt;

use http::Uri;

/// The protocol of a point of access.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// HTTP without a security association.
    Http,
    /// HTTP over a security association.
    Https,
    /// CoAP over a security association.
    Coaps,
}

impl Scheme {
    fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Coaps => "coaps",
        }
    }
}

/// The URI of a notification target that takes JSON. It has a host and no user information.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PointOfAccess {
    scheme: Scheme,
    uri: Uri,
}

/// The reason why a text is not a point of access.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PointOfAccessError {
    /// The text is not a URI, has no host, or has user information.
    #[error("is not a URI with a host and without a user")]
    Malformed,
    /// The URI has another scheme than the requested one.
    #[error("has another scheme")]
    Scheme,
    /// The URI requests another serialization than JSON.
    #[error("asks for another serialization than JSON")]
    Serialization,
}

impl PointOfAccess {
    /// Parses a URI of the given scheme.
    ///
    /// # Errors
    /// Returns the reason why `text` is not a point of access of this scheme.
    pub fn parse(text: &str, scheme: Scheme) -> Result<Self, PointOfAccessError> {
        let uri: Uri = text.parse().map_err(|_| PointOfAccessError::Malformed)?;
        if uri.scheme_str() != Some(scheme.name()) {
            return Err(PointOfAccessError::Scheme);
        }
        // A notification target names its serialization in the query string.
        let mut serialization = uri.query().unwrap_or_default().split('&');
        if serialization.find_map(|p| p.strip_prefix("ct=")).is_some_and(|ct| ct != "json") {
            return Err(PointOfAccessError::Serialization);
        }
        match uri.authority() {
            Some(at) if !at.host().is_empty() && !at.as_str().contains('@') => {
                Ok(Self { scheme, uri })
            }
            _ => Err(PointOfAccessError::Malformed),
        }
    }

    /// Returns the protocol.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Returns the URI, for the binding of the protocol.
    #[must_use]
    pub fn uri(&self) -> &Uri {
        &self.uri
    }
}

impl fmt::Display for PointOfAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.uri.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn point_of_access_has_scheme_host_and_no_user() {
        use PointOfAccessError as E;
        for good in ["http://a.b", "http://[::1]:80/x?y=z", "HTTP://A/?ct=json&a=b"] {
            let read = PointOfAccess::parse(good, Scheme::Http).unwrap();
            assert_eq!(read.scheme(), Scheme::Http);
            assert_eq!(PointOfAccess::parse(good, Scheme::Https), Err(E::Scheme), "{good}");
        }
        let read = PointOfAccess::parse("coaps://[::1]:5684/in", Scheme::Coaps).unwrap();
        assert_eq!(read.uri().port_u16(), Some(5684));
        for (bad, why) in [
            ("", E::Malformed),
            ("http://", E::Malformed),
            ("http://a b/", E::Malformed),
            ("http://u@a.b/", E::Malformed),
            ("http://u:p@a.b/", E::Malformed),
            ("coap://a.b", E::Scheme),
            ("coaps://a.b", E::Scheme),
            ("a.b", E::Scheme),
            ("http://a.b/?ct=xml", E::Serialization),
            ("http://a.b/?x&ct=cbor", E::Serialization),
        ] {
            assert_eq!(PointOfAccess::parse(bad, Scheme::Http), Err(why), "{bad}");
        }
    }
}
