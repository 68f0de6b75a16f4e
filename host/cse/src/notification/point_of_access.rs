//! Routes from an address in an attribute to the destination of a notification.
//!
//! An address is an `http://` URL, or that of an AE. A registered AE is reached through its `poa`
//! if its `rr` allows requests, or else through its polling channel (TS-0001 clause 9.6.5, TS-0004
//! clause 7.5.1.2). A notification for an AE is sent to the point of access unchanged. Of several
//! points of access, an `https://` or `coaps://` one is preferred. A notification for an AE at another CSE is
//! sent to that CSE.

use saegis_onem2m::id::CredentialId;
use saegis_onem2m::point_of_access::{PointOfAccess, Scheme};
use saegis_onem2m::resource::ResourceType;
use saegis_onem2m::serialization::Serialization;
use saegis_onem2m::target::Scope;
use serde_json::Value;

use crate::notification::message::{Destination, NamedBy};
use crate::record::{Record, Seconds, alive};
use crate::resource::address::ResolvedResource;
use crate::resource::ae_announcement;
use crate::resource::notification_target::NotificationTarget;
use crate::resource::registrant;
use crate::settings::Settings;
use crate::store::{Read, StoreError};

/// The route of a notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route {
    /// Send to this destination, named by this entity.
    Send(Destination, NamedBy),
    /// Put into the queue of a polling channel.
    PollingChannel {
        /// Resource-ID of the polling channel.
        ri: String,
        /// AE-ID of its AE.
        ae: String,
    },
    /// Unreachable, for this reason.
    Unreachable(&'static str),
}

impl Route {
    /// Returns the route to the same AE, for as long as the AE-ID belongs to a credential.
    pub(crate) fn only_to(self, credential: &CredentialId) -> Self {
        match self {
            Self::Send(there, NamedBy::Ae { stem, .. }) => {
                let registrant = Some(credential.to_string());
                Self::Send(there, NamedBy::Ae { stem, registrant })
            }
            other => other,
        }
    }
}

/// Returns the route to an address that `named_by` named.
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
        Some(ResolvedResource { record, .. }) => route_to_ae(read, now, record),
        None => route_to_others(read, settings, now, address, named_by),
    }
}

/// Returns the route to an address that is not that of a registered AE.
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
        _ => Ok(Route::Unreachable("it is not an AE that is registered here")),
    }
}

/// Returns the route to a registered AE.
pub(crate) fn route_to_ae(
    read: &dyn Read,
    now: Seconds,
    record: Record,
) -> Result<Route, StoreError> {
    let takes_requests = record.attributes.get("rr") == Some(&Value::Bool(true));
    if takes_requests && let Some(url) = point_of_access(&record) {
        return Ok(Route::Send(Destination::PointOfAccess(url), named_by(record)));
    }
    let channel = read.next_of_type(&record.ri, ResourceType::PollingChannel, None)?;
    if let Some(child) = channel
        && read.get(&child.ri)?.is_some_and(|c| alive(c.expires, now))
    {
        return Ok(Route::PollingChannel { ri: child.ri, ae: record.ri });
    }
    if takes_requests {
        // Over the connection that it has opened, if it has (TS-0020 clause 5.2).
        let there = Destination::Connection(record.ri.clone());
        return Ok(Route::Send(there, named_by(record)));
    }
    Ok(Route::Unreachable("it takes no requests, and has no polling channel"))
}

/// Returns the AE of a record. An AE-ID that its credential got by registering belongs to that
/// credential only.
fn named_by(record: Record) -> NamedBy {
    let learnt = record.registrant.filter(|registrant| registrant.learned_ae_id);
    NamedBy::Ae { stem: record.ri, registrant: learnt.map(|registrant| registrant.id) }
}

/// Returns the first usable point of access of an AE, preferably one over a security association.
/// Notifications have the serialization that the AE prefers.
fn point_of_access(ae: &Record) -> Option<PointOfAccess> {
    let of = |scheme| ae.texts("poa").find_map(|text| PointOfAccess::parse(text, scheme).ok());
    let found = [Scheme::Https, Scheme::Coaps, Scheme::Http].into_iter().find_map(of)?;
    Some(match preferred_serialization(ae) {
        Some(serialization) => found.with_serialization(serialization),
        None => found,
    })
}

/// Returns the first supported serialization in the `contentSerialization` of an AE (TS-0004 clause
/// 7.5.1.1).
fn preferred_serialization(ae: &Record) -> Option<Serialization> {
    ae.texts("csz").find_map(|text| match text.strip_prefix("application/").unwrap_or(text) {
        "json" => Some(Serialization::Json),
        "cbor" => Some(Serialization::Cbor),
        _ => None,
    })
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
        // The AE does not accept requests.
        assert!(matches!(to("cse/light1"), Route::Unreachable(_)));
        change(json!({"rr": true}));
        let at = |url: &str, named_by| {
            let scheme = match url.split_once(':').unwrap().0 {
                "https" => Scheme::Https,
                "coaps" => Scheme::Coaps,
                _ => Scheme::Http,
            };
            let there = PointOfAccess::parse(url, scheme).unwrap();
            Route::Send(Destination::PointOfAccess(there), named_by)
        };
        let ae = || NamedBy::Ae { stem: "Clight-AE1".into(), registrant: None };
        let there = at("http://a.b:1/x", ae());
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
        // A point of access over a security association is preferred.
        change(json!({"poa": ["http://a.b:1/x", "https://u@a.b/", "https://a.b:2/y"]}));
        assert_eq!(to("cse/light1"), at("https://a.b:2/y", ae()));
        change(json!({"poa": ["http://a.b:1/x", "coap://a.b", "coaps://a.b/z"]}));
        assert_eq!(to("cse/light1"), at("coaps://a.b/z", ae()));
        // Without such an address, over its own connection.
        change(json!({"poa": ["mqtt://a.b"]}));
        let own = Route::Send(Destination::Connection("Clight-AE1".into()), ae());
        assert_eq!(to("cse/light1"), own);
        change(json!({"rr": false}));
        assert!(matches!(to("cse/light1"), Route::Unreachable(_)));
    }

    #[test]
    fn ae_chooses_serialization() {
        let bench = Bench::with_lights();
        let serialization_with = |csz: Value, poa: &str| {
            let ae = json!({"m2m:ae": {"rr": true, "csz": csz, "poa": [poa]}});
            assert_eq!(bench.update(LIGHT1, "/cse/light1", ae).code, 2004);
            let snapshot = bench.snapshot();
            let address = NotificationTarget::parse("nu", LIGHT1).unwrap();
            let found = route(snapshot.read(), bench.settings(), bench.now(), &address, LIGHT2);
            match found.unwrap() {
                Route::Send(Destination::PointOfAccess(there), _) => there.serialization(),
                other => panic!("{other:?}"),
            }
        };
        for (csz, expected) in [
            (Value::Null, Serialization::Json),
            (json!(["json", "cbor"]), Serialization::Json),
            (json!(["cbor", "json"]), Serialization::Cbor),
            (json!(["application/cbor"]), Serialization::Cbor),
            (json!(["xml", "cbor"]), Serialization::Cbor),
            // XML is not supported.
            (json!(["xml"]), Serialization::Json),
        ] {
            for poa in ["http://a.b/", "https://a.b/", "coaps://a.b/"] {
                assert_eq!(serialization_with(csz.clone(), poa), expected, "{csz} {poa}");
            }
        }
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
