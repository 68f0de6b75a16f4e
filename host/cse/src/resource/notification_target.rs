//! The targets of subscriptions, in `nu` and `su`.

use saegis_onem2m::point_of_access::{PointOfAccess, PointOfAccessError, Scheme};
use saegis_onem2m::target::Target;

use crate::error::Refusal;
use crate::resource::schema::AttributeError;

/// A notification target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NotificationTarget {
    /// A URI that the subscriber named.
    PointOfAccess(PointOfAccess),
    /// A resource.
    Resource(Target),
}

impl NotificationTarget {
    /// Parses the address in the attribute or parameter `name`.
    ///
    /// # Errors
    /// Returns an error if it is malformed, or its protocol is not supported.
    pub(crate) fn parse(name: &'static str, text: &str) -> Result<Self, Refusal> {
        let malformed = || AttributeError::value(name, "has an invalid address");
        if !text.contains("://") {
            return Ok(Self::Resource(Target::from_address(text).map_err(|_| malformed())?));
        }
        match PointOfAccess::parse(text, Scheme::Http) {
            Ok(there) => Ok(Self::PointOfAccess(there)),
            Err(PointOfAccessError::Malformed) => Err(malformed().into()),
            Err(PointOfAccessError::Scheme) => Err(Refusal::NotImplemented(
                "notifications are sent to http:// addresses and AEs only",
            )),
            Err(PointOfAccessError::Serialization) => {
                Err(Refusal::NotImplemented("notifications are available in JSON and CBOR only"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use saegis_onem2m::rsc::Rsc;

    #[test]
    fn target_is_url_or_resource() {
        for url in [
            "http://a.b",
            "http://a.b:80/x?y=z",
            "http://[::1]:8080/",
            "HTTP://A/?ct=json&a=b",
            "http://a.b/?ct=cbor",
        ] {
            assert!(
                matches!(
                    NotificationTarget::parse("nu", url),
                    Ok(NotificationTarget::PointOfAccess(_))
                ),
                "{url}"
            );
        }
        for resource in ["cse/light1", "Clight-AE1", "/other/Cx", "//a.b/other/Cx"] {
            let read = NotificationTarget::parse("nu", resource).unwrap();
            assert_eq!(read, NotificationTarget::Resource(Target::from_address(resource).unwrap()));
        }
        for bad in [
            "",
            "http://",
            "http:///x",
            "http://u@a.b/",
            "http://u:p@a.b/",
            "http://a b/",
            "a b",
            "://",
        ] {
            let e = NotificationTarget::parse("nu", bad).unwrap_err();
            assert_eq!(e.rsc(), Rsc::BadRequest, "{bad}");
        }
        for other in ["https://a.b", "mqtt://a.b", "coap://a.b", "http://a.b/?ct=xml"] {
            let e = NotificationTarget::parse("nu", other).unwrap_err();
            assert_eq!(e.rsc(), Rsc::NotImplemented, "{other}");
        }
    }
}
