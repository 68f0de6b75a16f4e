//! Addresses in attributes: links from one resource to others (TS-0001 clause 9.4.2).

use saegis_onem2m::target::Target;

use crate::error::Refusal;
use crate::record::{Record, Seconds};
use crate::resource::address::{self, Resolved};
use crate::settings::Settings;
use crate::store::{Read, StoreError};

/// Returns the resource at an address, if it exists at this CSE.
pub(crate) fn resolve(
    read: &dyn Read,
    settings: &Settings,
    text: &str,
    now: Seconds,
) -> Result<Option<Record>, StoreError> {
    let Ok(target) = Target::from_address(text) else { return Ok(None) };
    match address::resolve(read, settings, &target, now) {
        Ok(Resolved::Resource(found)) => Ok(Some(found.record)),
        Ok(Resolved::Instance { .. }) => Ok(None),
        Err(Refusal::Store(error)) => Err(error),
        Err(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Bench, LIGHT1};

    #[test]
    fn link_accepts_address_forms() {
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
