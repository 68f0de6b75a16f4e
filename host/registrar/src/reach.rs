//! From an address in an attribute to where a notification is sent.
//!
//! An address is an `http://` URL, or that of an AE which is registered here: then its `poa` says
//! where, if its `rr` says that it takes requests, or else its polling channel does (TS-0001 clause
//! 9.6.5, TS-0004 clause 7.5.1.2). A notification for an AE goes to its point of access as it is.

use http::Uri;
use saegis_onem2m::resource::ResourceType;
use saegis_onem2m::target::Target;
use serde_json::Value;

use crate::address::{self, Found, Place};
use crate::attributes::AttributeError;
use crate::notification::NamedBy;
use crate::record::{Record, Seconds, alive};
use crate::refusal::Refusal;
use crate::settings::Settings;
use crate::store::{Read, StoreError};

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
            return Err(Refusal::NotImplemented("notifications go to http:// addresses only"));
        }
        let serialization =
            url.query().unwrap_or_default().split('&').find_map(|p| p.strip_prefix("ct="));
        if serialization.is_some_and(|s| s != "json") {
            return Err(Refusal::NotImplemented("notifications are written in JSON only"));
        }
        match url.authority() {
            Some(at) if !at.host().is_empty() && !at.as_str().contains('@') => Ok(Self::Url(url)),
            _ => Err(bad().into()),
        }
    }
}

/// Where a notification is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reach {
    /// To an address, on somebody's word.
    Http(Uri, NamedBy),
    /// Into the queue of the polling channel with that resource-ID, for the AE with that AE-ID.
    Channel {
        /// The polling channel.
        ri: String,
        /// Whose it is.
        ae: String,
    },
    /// Nowhere.
    Nowhere(&'static str),
}

/// The AE that a target leads to.
pub(crate) fn ae(
    read: &dyn Read,
    settings: &Settings,
    target: &Target,
    now: Seconds,
) -> Result<Option<Found>, StoreError> {
    // An S-type AE-ID in its SP-relative form has the place of a CSE-ID (TS-0001 clause 7.2).
    let spelled = target.to_string();
    let stem = spelled.strip_prefix('/').and_then(|s| s.strip_suffix("/-"));
    if let Some(stem) = stem.filter(|s| s.starts_with('S'))
        && let Some(found) = address::by_id(read, stem, now)?
        && found.record.ty == ResourceType::Ae
    {
        return Ok(Some(found));
    }
    match address::resolve(read, settings, target, now) {
        Ok(Place::Resource(found)) if found.record.ty == ResourceType::Ae => Ok(Some(found)),
        Ok(_) | Err(Refusal::NotFound) => Ok(None),
        Err(Refusal::Store(error)) => Err(error),
        Err(_) => Ok(None),
    }
}

/// Where what is addressed so is sent, on the word of `named_by`.
pub(crate) fn reach(
    read: &dyn Read,
    settings: &Settings,
    now: Seconds,
    address: &Address,
    named_by: &str,
) -> Result<Reach, StoreError> {
    let target = match address {
        Address::Url(url) => {
            return Ok(Reach::Http(url.clone(), NamedBy::Subscriber(named_by.into())));
        }
        Address::Resource(target) => target,
    };
    let Some(Found { record, .. }) = ae(read, settings, target, now)? else {
        return Ok(Reach::Nowhere("it is no AE that is registered here"));
    };
    if record.attributes.get("rr") == Some(&Value::Bool(true))
        && let Some(url) = point_of_access(&record)
    {
        return Ok(Reach::Http(url, NamedBy::Ae(record.ri)));
    }
    let channel = read.next_of_type(&record.ri, ResourceType::PollingChannel, None)?;
    if let Some(child) = channel
        && read.get(&child.ri)?.is_some_and(|c| alive(c.expires, now))
    {
        return Ok(Reach::Channel { ri: child.ri, ae: record.ri });
    }
    Ok(Reach::Nowhere("it has no point of access that can be reached, and no polling channel"))
}

/// The first point of access of an AE that a notification can be sent to.
fn point_of_access(ae: &Record) -> Option<Uri> {
    let all = ae.attributes.get("poa").and_then(Value::as_array)?;
    all.iter().filter_map(Value::as_str).find_map(|text| match Address::parse("poa", text) {
        Ok(Address::Url(url)) => Some(url),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Bench, LIGHT1, LIGHT2};
    use saegis_onem2m::rsc::Rsc;
    use serde_json::json;

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

    #[test]
    fn an_ae_says_where_it_is_reached() {
        let bench = Bench::with_lights();
        let to = |address: &str| {
            let snapshot = bench.snapshot();
            let address = Address::parse("nu", address).unwrap();
            reach(snapshot.read(), bench.settings(), bench.now(), &address, LIGHT2).unwrap()
        };
        let change = |attributes: Value| {
            let reply = bench.update(LIGHT1, "/cse/light1", json!({ "m2m:ae": attributes }));
            assert_eq!(reply.code, 2004);
        };
        assert!(matches!(to("cse/light1"), Reach::Nowhere(_)));
        change(json!({"poa": ["mqtt://a.b", "http://u@a.b/", "http://a.b:1/x", "http://c.d"]}));
        // It says that it takes no requests.
        assert!(matches!(to("cse/light1"), Reach::Nowhere(_)));
        change(json!({"rr": true}));
        let there =
            Reach::Http("http://a.b:1/x".parse().unwrap(), NamedBy::Ae("Clight-AE1".into()));
        for address in ["cse/light1", "Clight-AE1", "/mn-cse-123456/Clight-AE1", "-/light1"] {
            assert_eq!(to(address), there, "{address}");
        }
        for nowhere in ["cse", "cse/light1/state", "cse/light1/state/la", "Cnobody", "/other/Cx"] {
            assert!(matches!(to(nowhere), Reach::Nowhere(_)), "{nowhere}");
        }
        let named = Reach::Http("http://e.f/".parse().unwrap(), NamedBy::Subscriber(LIGHT2.into()));
        assert_eq!(to("http://e.f/"), named);
        change(json!({"poa": ["mqtt://a.b"]}));
        assert!(matches!(to("cse/light1"), Reach::Nowhere(_)));
    }

    #[test]
    fn an_s_type_ae_has_an_address_of_its_own() {
        let bench = Bench::with_lights();
        let ae = json!({"m2m:ae": {"api": "Nx", "rr": true, "poa": ["http://a.b/"]}});
        assert_eq!(bench.create(Some("Sthird"), "/cse", 2, ae).code, 2001);
        let snapshot = bench.snapshot();
        for (address, found) in [("/Sthird", true), ("Sthird", true), ("/Sother", false)] {
            let target = Target::from_address(address).unwrap();
            let ae = ae_of(&bench, snapshot.read(), &target);
            assert_eq!(ae, found, "{address}");
        }
    }

    fn ae_of(bench: &Bench, read: &dyn Read, target: &Target) -> bool {
        super::ae(read, bench.settings(), target, bench.now()).unwrap().is_some()
    }
}
