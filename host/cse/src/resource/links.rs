//! Addresses in attributes: the resources that a resource points to (TS-0001 clause 9.4.2).

use saegis_onem2m::target::{MAX_PATH, Target};

use crate::error::Refusal;
use crate::record::{Record, Seconds};
use crate::request::target::{self, Place};
use crate::settings::Settings;
use crate::store::{Read, StoreError};

/// Reads an address as it stands in an attribute: `x` is CSE-relative, `/CSE/x` SP-relative,
/// `//sp/CSE/x` absolute.
pub(crate) fn target(text: &str) -> Option<Target> {
    // An attribute is no path: nothing in it is escaped.
    if text.contains('%') || text.len() > MAX_PATH - 2 {
        return None;
    }
    let path = match (text.strip_prefix("//"), text.strip_prefix('/')) {
        (Some(absolute), _) => format!("/_/{absolute}"),
        (None, Some(relative)) => format!("/~/{relative}"),
        // These would be taken for what a path starts with.
        (None, None) if matches!(text.split('/').next(), Some("~" | "_")) => return None,
        (None, None) => format!("/{text}"),
    };
    Target::from_path(&path).ok()
}

/// The resource at an address, if it is here and there is one.
pub(crate) fn resolve(
    read: &dyn Read,
    settings: &Settings,
    text: &str,
    now: Seconds,
) -> Result<Option<Record>, StoreError> {
    let Some(target) = target(text) else { return Ok(None) };
    match target::resolve(read, settings, &target, now) {
        Ok(Place::Resource(found)) => Ok(Some(found.record)),
        Ok(Place::Instance { .. }) => Ok(None),
        Err(Refusal::Store(error)) => Err(error),
        Err(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Bench, LIGHT1};

    #[test]
    fn a_link_has_the_forms_of_an_address() {
        let bench = Bench::with_lights();
        let snapshot = bench.snapshot();
        let find = |text: &str| {
            let found = resolve(snapshot.read(), bench.settings(), text, bench.now()).unwrap();
            found.map(|record| record.ri)
        };
        for good in [
            "cse/light1",
            "-/light1",
            LIGHT1,
            "/mn-cse-123456/Clight-AE1",
            "/mn-cse-123456/cse/light1",
            "//in.provider.com/mn-cse-123456/cse/light1",
        ] {
            assert_eq!(find(good).as_deref(), Some(LIGHT1), "{good}");
        }
        for bad in [
            "",
            "/",
            "cse/light3",
            "light1",
            "cse/light1/state/la",
            "/in-cse/Clight-AE1",
            "/cse/light1",
            "//elsewhere.com/mn-cse-123456/cse/light1",
            "~/mn-cse-123456/Clight-AE1",
            "_/in.provider.com/mn-cse-123456/Clight-AE1",
            "%63se/light1",
            "cse//light1",
            "cse/../cse/light1",
        ] {
            assert_eq!(find(bad), None, "{bad}");
        }
    }
}
