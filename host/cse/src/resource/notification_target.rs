//! The targets that a subscription names, as `nu` and `su` hold them.

use http::Uri;
use saegis_onem2m::target::Target;

use crate::error::Refusal;
use crate::resource::schema::AttributeError;

/// An address in an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// An `http://` URL.
    Url(Uri),
    /// A resource.
    Resource(Target),
}

impl Address {
    /// Reads the address in the attribute `name`.
    ///
    /// # Errors
    /// When it is none, or one of a protocol that is not spoken here.
    pub(crate) fn parse(name: &'static str, text: &str) -> Result<Self, Refusal> {
        let bad = || AttributeError::value(name, "has something that is no address");
        if !text.contains("://") {
            return Ok(Self::Resource(Target::from_address(text).map_err(|_| bad())?));
        }
        let url: Uri = text.parse().map_err(|_| bad())?;
        if url.scheme_str() != Some("http") {
            let why = "notifications go to http:// addresses and to AEs only";
            return Err(Refusal::NotImplemented(why));
        }
        Self::url(name, url).map(Self::Url)
    }

    /// Makes sure that a URL is one to which something can be sent.
    pub(crate) fn url(name: &'static str, url: Uri) -> Result<Uri, Refusal> {
        let serialization =
            url.query().unwrap_or_default().split('&').find_map(|p| p.strip_prefix("ct="));
        if serialization.is_some_and(|s| s != "json") {
            return Err(Refusal::NotImplemented("notifications are written in JSON only"));
        }
        match url.authority() {
            Some(at) if !at.host().is_empty() && !at.as_str().contains('@') => Ok(url),
            _ => Err(AttributeError::value(name, "has something that is no address").into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use saegis_onem2m::rsc::Rsc;

    #[test]
    fn an_address_is_a_url_or_a_resource() {
        for url in
            ["http://a.b", "http://a.b:80/x?y=z", "http://[::1]:8080/", "HTTP://A/?ct=json&a=b"]
        {
            assert!(matches!(Address::parse("nu", url), Ok(Address::Url(_))), "{url}");
        }
        for resource in ["cse/light1", "Clight-AE1", "/other/Cx", "//a.b/other/Cx"] {
            let read = Address::parse("nu", resource).unwrap();
            assert_eq!(read, Address::Resource(Target::from_address(resource).unwrap()));
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
            let e = Address::parse("nu", bad).unwrap_err();
            assert_eq!(e.rsc(), Rsc::BadRequest, "{bad}");
        }
        for other in ["https://a.b", "mqtt://a.b", "coap://a.b", "http://a.b/?ct=xml"] {
            let e = Address::parse("nu", other).unwrap_err();
            assert_eq!(e.rsc(), Rsc::NotImplemented, "{other}");
        }
    }
}
