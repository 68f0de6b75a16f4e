//! From an address in an attribute to where a notification is sent.
//!
//! An address is an `http://` URL, or that of an AE. One that is registered here has a `poa` that says
//! where, if its `rr` says that it takes requests, or else its polling channel does (TS-0001 clause
//! 9.6.5, TS-0004 clause 7.5.1.2). A notification for an AE goes to its point of access as it is; of
//! several, an `https://` one goes first. What is for an AE at another CSE goes to that CSE.

use saegis_onem2m::point_of_access::{PointOfAccess, Scheme};
use saegis_onem2m::resource::ResourceType;
use saegis_onem2m::target::Scope;
use serde_json::Value;

use crate::notification::message::{Destination, NamedBy};
use crate::record::{Record, Seconds, alive};
use crate::resource::address::Found;
use crate::resource::ae_announcement;
use crate::resource::notification_target::NotificationTarget;
use crate::resource::registrant;
use crate::settings::Settings;
use crate::store::{Read, StoreError};

/// Where a notification is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route {
    /// There, on somebody's word.
    Send(Destination, NamedBy),
    /// Into the queue of the polling channel with that resource-ID, for the AE with that AE-ID.
    PollingChannel {
        /// The polling channel.
        ri: String,
        /// Whose it is.
        ae: String,
    },
    /// Nowhere.
    Unreachable(&'static str),
}

/// Where what is addressed so is sent, on the word of `named_by`.
pub(crate) fn route(
    read: &dyn Read,
    settings: &Settings,
    now: Seconds,
    address: &NotificationTarget,
    named_by: &str,
) -> Result<Route, StoreError> {
    let ae = match address {
        NotificationTarget::Resource(target) => registrant::ae_at(read, settings, target, now)?,
        NotificationTarget::PointOfAccess(_) => None,
    };
    match ae {
        Some(Found { record, .. }) => route_to_ae(read, now, record),
        None => route_to_others(read, settings, now, address, named_by),
    }
}

/// Where what is addressed so is sent, unless it is an AE that is registered here.
pub(crate) fn route_to_others(
    read: &dyn Read,
    settings: &Settings,
    now: Seconds,
    address: &NotificationTarget,
    named_by: &str,
) -> Result<Route, StoreError> {
    let target = match address {
        NotificationTarget::PointOfAccess(url) => {
            let there = Destination::PointOfAccess(url.clone());
            return Ok(Route::Send(there, NamedBy::Subscriber(named_by.into())));
        }
        NotificationTarget::Resource(target) => target,
    };
    let located = ae_announcement::locate(read, target, now)?;
    let there = located.as_ref().unwrap_or(target);
    match &there.scope {
        Scope::SpRelative(cse) if *cse != settings.cse_id => {
            let there = Destination::Elsewhere(there.clone());
            Ok(Route::Send(there, NamedBy::Subscriber(named_by.into())))
        }
        _ => Ok(Route::Unreachable("it is no AE that is registered here")),
    }
}

/// Where an AE that is registered here is reached.
pub(crate) fn route_to_ae(
    read: &dyn Read,
    now: Seconds,
    record: Record,
) -> Result<Route, StoreError> {
    if record.attributes.get("rr") == Some(&Value::Bool(true))
        && let Some(url) = point_of_access(&record)
    {
        return Ok(Route::Send(Destination::PointOfAccess(url), NamedBy::Ae(record.ri)));
    }
    let channel = read.next_of_type(&record.ri, ResourceType::PollingChannel, None)?;
    if let Some(child) = channel
        && read.get(&child.ri)?.is_some_and(|c| alive(c.expires, now))
    {
        return Ok(Route::PollingChannel { ri: child.ri, ae: record.ri });
    }
    Ok(Route::Unreachable("it has no point of access that can be reached, and no polling channel"))
}

/// The first point of access of an AE that a notification can be sent to, one over a security
/// association before all others.
fn point_of_access(ae: &Record) -> Option<PointOfAccess> {
    let all = ae.attributes.get("poa").and_then(Value::as_array)?;
    let of = |scheme| {
        let mut texts = all.iter().filter_map(Value::as_str);
        texts.find_map(|text| PointOfAccess::parse(text, scheme).ok())
    };
    of(Scheme::Https).or_else(|| of(Scheme::Http))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Bench, LIGHT1, LIGHT2};
    use saegis_onem2m::target::Target;
    use serde_json::json;

    #[test]
    fn ae_is_reached_at_its_point_of_access() {
        let bench = Bench::with_lights();
        let to = |address: &str| {
            let snapshot = bench.snapshot();
            let address = NotificationTarget::parse("nu", address).unwrap();
            route(snapshot.read(), bench.settings(), bench.now(), &address, LIGHT2).unwrap()
        };
        let change = |attributes: Value| {
            let reply = bench.update(LIGHT1, "/cse/light1", json!({ "m2m:ae": attributes }));
            assert_eq!(reply.code, 2004);
        };
        assert!(matches!(to("cse/light1"), Route::Unreachable(_)));
        change(json!({"poa": ["mqtt://a.b", "http://u@a.b/", "http://a.b:1/x", "http://c.d"]}));
        // It says that it takes no requests.
        assert!(matches!(to("cse/light1"), Route::Unreachable(_)));
        change(json!({"rr": true}));
        let at = |url: &str, named_by| {
            let scheme = if url.starts_with("https") { Scheme::Https } else { Scheme::Http };
            let there = PointOfAccess::parse(url, scheme).unwrap();
            Route::Send(Destination::PointOfAccess(there), named_by)
        };
        let there = at("http://a.b:1/x", NamedBy::Ae("Clight-AE1".into()));
        for address in ["cse/light1", "Clight-AE1", "/mn-cse-123456/Clight-AE1", "-/light1"] {
            assert_eq!(to(address), there, "{address}");
        }
        let absolute = "//in.provider.com/other/Cx";
        let own = "/mn-cse-123456/Cnobody";
        for nowhere in
            ["cse", "cse/light1/state", "cse/light1/state/la", "Cnobody", absolute, own, "Snobody"]
        {
            assert!(matches!(to(nowhere), Route::Unreachable(_)), "{nowhere}");
        }
        let subscriber = || NamedBy::Subscriber(LIGHT2.into());
        assert_eq!(to("http://e.f/"), at("http://e.f/", subscriber()));
        for elsewhere in ["/other/Cx", "/other/cse/x", "/Sother"] {
            let there = Destination::Elsewhere(Target::from_address(elsewhere).unwrap());
            assert_eq!(to(elsewhere), Route::Send(there, subscriber()), "{elsewhere}");
        }
        // Over a security association before all others.
        change(json!({"poa": ["http://a.b:1/x", "https://u@a.b/", "https://a.b:2/y"]}));
        assert_eq!(to("cse/light1"), at("https://a.b:2/y", NamedBy::Ae("Clight-AE1".into())));
        change(json!({"poa": ["mqtt://a.b"]}));
        assert!(matches!(to("cse/light1"), Route::Unreachable(_)));
    }

    #[test]
    fn s_type_ae_id_is_its_own_address() {
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
        registrant::ae_at(read, bench.settings(), target, bench.now()).unwrap().is_some()
    }
}
