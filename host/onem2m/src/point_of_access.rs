//! Points of access: the URIs of AEs and other notification targets (TS-0001 clause 9.6.5,
//! pointOfAccess; clause 9.6.8, notificationURI).

use std::fmt;

use http::Uri;
use http::uri::PathAndQuery;

use crate::serialization::Serialization;

/// Name of the query parameter with the serialization of a notification target.
const SERIALIZATION: &str = "ct=";

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

/// The URI of a notification target, and the serialization of notifications to it. The URI has a host
/// and no user information.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PointOfAccess {
    scheme: Scheme,
    uri: Uri,
    serialization: Serialization,
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
    /// The URI requests another serialization than JSON or CBOR.
    #[error("asks for another serialization than JSON or CBOR")]
    Serialization,
}

impl PointOfAccess {
    /// Parses a URI of the given scheme. A notification target can name its serialization in the query
    /// string, as in `?ct=cbor`, which is not part of the URI then (TS-0001 table 9.6.8-2). Without
    /// one it is JSON.
    ///
    /// # Errors
    /// Returns the reason why `text` is not a point of access of this scheme.
    pub fn parse(text: &str, scheme: Scheme) -> Result<Self, PointOfAccessError> {
        let uri: Uri = text.parse().map_err(|_| PointOfAccessError::Malformed)?;
        if uri.scheme_str() != Some(scheme.name()) {
            return Err(PointOfAccessError::Scheme);
        }
        let mut parameters = uri.query().unwrap_or_default().split('&');
        let serialization = match parameters.find_map(|p| p.strip_prefix(SERIALIZATION)) {
            None | Some("json") => Serialization::Json,
            Some("cbor") => Serialization::Cbor,
            Some(_) => return Err(PointOfAccessError::Serialization),
        };
        match uri.authority() {
            Some(at) if !at.host().is_empty() && !at.as_str().contains('@') => {
                let uri = without_serialization(uri).ok_or(PointOfAccessError::Malformed)?;
                Ok(Self { scheme, uri, serialization })
            }
            _ => Err(PointOfAccessError::Malformed),
        }
    }

    /// Returns the same address with this serialization.
    #[must_use]
    pub fn with_serialization(self, serialization: Serialization) -> Self {
        Self { serialization, ..self }
    }

    /// Returns the serialization of notifications.
    #[must_use]
    pub fn serialization(&self) -> Serialization {
        self.serialization
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

/// Removes the serialization from the query string of a URI.
fn without_serialization(uri: Uri) -> Option<Uri> {
    let Some(query) = uri.query() else { return Some(uri) };
    let rest: Vec<_> = query.split('&').filter(|p| !p.starts_with(SERIALIZATION)).collect();
    if rest.len() == query.split('&').count() {
        return Some(uri);
    }
    let separator = if rest.is_empty() { "" } else { "?" };
    let changed = format!("{}{separator}{}", uri.path(), rest.join("&"));
    let mut parts = uri.into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(changed).ok()?);
    Uri::from_parts(parts).ok()
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
            ("http://a.b/?x&ct=CBOR", E::Serialization),
            ("http://a.b/?ct=", E::Serialization),
        ] {
            assert_eq!(PointOfAccess::parse(bad, Scheme::Http), Err(why), "{bad}");
        }
    }

    #[test]
    fn serialization_is_not_part_of_uri() {
        use Serialization::{Cbor, Json};
        for (text, serialization, uri) in [
            ("http://a.b/x?y=z", Json, "http://a.b/x?y=z"),
            ("http://a.b/x?ct=json", Json, "http://a.b/x"),
            ("http://a.b:80/x?y&ct=cbor&z=1", Cbor, "http://a.b:80/x?y&z=1"),
            ("http://a.b?ct=cbor", Cbor, "http://a.b/"),
            ("http://a.b/?act=cbor", Json, "http://a.b/?act=cbor"),
        ] {
            let read = PointOfAccess::parse(text, Scheme::Http).unwrap();
            assert_eq!((read.serialization(), read.to_string().as_str()), (serialization, uri));
            let other = read.clone().with_serialization(Cbor);
            assert_eq!((other == read, other.serialization()), (serialization == Cbor, Cbor));
        }
    }
}
