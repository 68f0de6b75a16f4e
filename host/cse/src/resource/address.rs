//! Resolution of the To of a request to a resource, and of a resource to its addresses (TS-0001
//! clause 9.3).
//!
//! The first segment names the `<CSEBase>`, as `-` or by its name, or any resource by its
//! resource-ID. The other segments are names. An expired resource and the resources below it are
//! not found, even before their removal.

use saegis_onem2m::target::{Scope, Target};

use crate::error::Refusal;
use crate::record::{Record, Seconds, alive, earlier};
use crate::settings::Settings;
use crate::store::{Edge, Read, StoreError};

/// An existing resource with its expiration time.
#[derive(Debug)]
pub(crate) struct ResolvedResource {
    /// Resource.
    pub(crate) record: Record,
    /// Expiration time of the resource or of an ancestor, whichever is first.
    pub(crate) expires: Option<Seconds>,
}

/// The result of resolving an address.
#[derive(Debug)]
pub(crate) enum Resolved {
    /// A resource.
    Resource(ResolvedResource),
    /// The virtual resource `la` or `ol` of a container or a flexContainer.
    Instance {
        /// Container.
        container: ResolvedResource,
        /// Denoted instance.
        edge: Edge,
    },
}

/// Resolves an address.
///
/// # Errors
/// Returns an error if there is no resource at the address.
pub(crate) fn resolve(
    read: &dyn Read,
    settings: &Settings,
    to: &Target,
    now: Seconds,
) -> Result<Resolved, Refusal> {
    if !to.is_at(&settings.cse_id, settings.service_provider.as_deref()) {
        return Err(Refusal::NotFound);
    }
    let mut segments = to.resource.split('/');
    let first = segments.next().unwrap_or_default();
    let ri =
        if first == "-" || first == settings.csebase_name { settings.cse_id.bare() } else { first };
    let mut found = by_id(read, ri, now)?.ok_or(Refusal::NotFound)?;
    while let Some(name) = segments.next() {
        if let Some(edge) = virtual_child(&found.record, name) {
            return match segments.next() {
                None => Ok(Resolved::Instance { container: found, edge }),
                Some(_) => Err(Refusal::NotFound),
            };
        }
        let child = read.named(&found.record.ri, name)?.ok_or(Refusal::NotFound)?;
        let record = read.get(&child)?.ok_or(StoreError::Corrupt(child))?;
        let expires = earlier(found.expires, record.expires);
        if !alive(expires, now) {
            return Err(Refusal::NotFound);
        }
        found = ResolvedResource { record, expires };
    }
    Ok(Resolved::Resource(found))
}

fn virtual_child(parent: &Record, name: &str) -> Option<Edge> {
    // A flexContainer without instances has no virtual resources.
    parent.instances?;
    match name {
        "la" => Some(Edge::Latest),
        "ol" => Some(Edge::Oldest),
        _ => None,
    }
}

/// Returns the resource with this resource-ID.
pub(crate) fn by_id(
    read: &dyn Read,
    ri: &str,
    now: Seconds,
) -> Result<Option<ResolvedResource>, StoreError> {
    let Some(record) = read.get(ri)? else { return Ok(None) };
    let mut expires = record.expires;
    let mut above = record.parent.clone();
    while let Some(ri) = above {
        let parent = read.get(&ri)?.ok_or(StoreError::Corrupt(ri))?;
        expires = earlier(expires, parent.expires);
        above = parent.parent;
    }
    Ok(alive(expires, now).then_some(ResolvedResource { record, expires }))
}

/// Returns the oldest or latest instance of a container.
///
/// # Errors
/// Returns an error if the container is empty.
pub(crate) fn instance(
    read: &dyn Read,
    container: &ResolvedResource,
    edge: Edge,
    now: Seconds,
) -> Result<ResolvedResource, Refusal> {
    let Some(ty) = container.record.ty.instances() else { return Err(Refusal::NotFound) };
    let mut beyond = None;
    while let Some(child) = read.instance(&container.record.ri, ty, edge, beyond)? {
        let record = read.get(&child.ri)?.ok_or(StoreError::Corrupt(child.ri))?;
        let expires = earlier(container.expires, record.expires);
        if alive(expires, now) {
            return Ok(ResolvedResource { record, expires });
        }
        beyond = Some(child.sequence);
    }
    Err(Refusal::NotFound)
}

/// Returns the structured address of a resource, CSE-relative: `cse/light/state`.
pub(crate) fn structured(read: &dyn Read, record: &Record) -> Result<String, StoreError> {
    let mut names = vec![record.name.clone()];
    let mut above = record.parent.clone();
    while let Some(ri) = above {
        let parent = read.get(&ri)?.ok_or(StoreError::Corrupt(ri))?;
        names.push(parent.name);
        above = parent.parent;
    }
    names.reverse();
    Ok(names.join("/"))
}

/// Converts a CSE-relative address, structured or not, to the form of the request's target. An
/// originator that had to name the CSE cannot use an address without it.
pub(crate) fn in_scope_of(to: &Target, settings: &Settings, address: &str) -> String {
    match &to.scope {
        Scope::CseRelative => address.into(),
        Scope::SpRelative(_) => format!("{}/{address}", settings.cse_id),
        Scope::Absolute { sp, .. } => format!("//{sp}{}/{address}", settings.cse_id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Bench;

    fn at(bench: &Bench, path: &str) -> Result<String, Refusal> {
        let snapshot = bench.snapshot();
        let to = Target::from_path(path).unwrap();
        match resolve(snapshot.read(), bench.settings(), &to, bench.now())? {
            Resolved::Resource(found) => Ok(structured(snapshot.read(), &found.record).unwrap()),
            Resolved::Instance { container, edge } => {
                Ok(format!("{}:{edge:?}", container.record.name))
            }
        }
    }

    #[test]
    fn address_forms_resolve_to_same_resource() {
        let bench = Bench::with_lights();
        for path in ["/-", "/cse", "/mn-cse-123456", "/~/mn-cse-123456", "/~/mn-cse-123456/cse"] {
            assert_eq!(at(&bench, path).unwrap(), "cse", "{path}");
        }
        for path in [
            "/cse/light1",
            "/-/light1",
            "/Clight-AE1",
            "/mn-cse-123456/light1",
            "/~/mn-cse-123456/Clight-AE1",
            "/_/in.provider.com/mn-cse-123456/cse/light1",
        ] {
            assert_eq!(at(&bench, path).unwrap(), "cse/light1", "{path}");
        }
        for path in ["/cse/light1/state", "/Clight-AE1/state"] {
            assert_eq!(at(&bench, path).unwrap(), "cse/light1/state", "{path}");
        }
        assert_eq!(at(&bench, "/Clight-AE1/state/la").unwrap(), "state:Latest");
        assert_eq!(at(&bench, "/cse/light1/state/ol").unwrap(), "state:Oldest");
    }

    #[test]
    fn unknown_address_is_not_found() {
        let bench = Bench::with_lights();
        for path in [
            "/light1",
            "/cse/light3",
            "/cse/cse",
            "/cse/Clight-AE1",
            "/cse/light1/la",
            "/cse/la",
            "/la",
            "/cse/light1/state/la/la",
            "/cse/light1/-",
            "/~/other/cse",
            "/_/elsewhere.com/mn-cse-123456/cse",
        ] {
            assert!(matches!(at(&bench, path), Err(Refusal::NotFound)), "{path}");
        }
    }

    #[test]
    fn response_address_has_form_of_request() {
        let bench = Bench::with_lights();
        let write = |path| {
            let to = Target::from_path(path).unwrap();
            in_scope_of(&to, bench.settings(), "cse/light1")
        };
        assert_eq!(write("/cse"), "cse/light1");
        assert_eq!(write("/~/mn-cse-123456"), "/mn-cse-123456/cse/light1");
        assert_eq!(
            write("/_/in.provider.com/mn-cse-123456"),
            "//in.provider.com/mn-cse-123456/cse/light1"
        );
    }
}
