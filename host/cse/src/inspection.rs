//! The resources of a CSE that does not run, for its operator.

use std::path::Path;

use saegis_onem2m::target::Target;
use serde_json::{Value, json};

use crate::export;
use crate::record::{Record, Seconds, earlier};
use crate::resource::address::{self, Resolved};
use crate::resource::representation::{self, in_root_element};
use crate::settings::Settings;
use crate::store::StoreError;
use crate::store::stopped::{self, StoppedStore};

/// The reason why resources cannot be inspected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InspectionError {
    /// The file cannot be opened or read.
    #[error("a running gateway has its store open: stop it first, or use a copy ({0})")]
    Store(#[from] StoreError),
    /// The address has no resource.
    #[error("there is no resource at {0}")]
    NotFound(String),
}

/// A resource, with its position in the tree.
#[derive(Debug)]
#[non_exhaustive]
pub struct InspectedResource {
    /// Level below the start.
    pub level: usize,
    /// Structured address.
    pub address: String,
    /// Name.
    pub name: String,
    /// Resource-ID.
    pub ri: String,
    /// Root name of the representation.
    pub root: String,
    /// Representation.
    pub representation: Value,
    /// AEs and CSEs on which the rights to the resource depend, with their registrants.
    pub holders: Value,
}

/// The resources of a CSE that does not run.
pub struct Inspection {
    store: StoppedStore,
    settings: Settings,
}

impl Inspection {
    /// Opens the store of a CSE with these settings. No resource is changed.
    ///
    /// # Errors
    /// Returns an error if the file cannot be opened.
    pub fn open(path: &Path, settings: Settings) -> Result<Self, InspectionError> {
        Ok(Self { store: StoppedStore::open(path)?, settings })
    }

    /// Visits a resource and those below it, parents before their children. Expired resources that
    /// are not removed yet are included.
    ///
    /// # Errors
    /// Returns an error if there is no resource at the address, or the store fails.
    pub fn visit(
        &self,
        from: &str,
        levels: usize,
        visit: &mut dyn FnMut(InspectedResource),
    ) -> Result<(), InspectionError> {
        let not_found = || InspectionError::NotFound(from.into());
        let target = Target::from_address(from).map_err(|_| not_found())?;
        let read = self.store.read();
        let top = match address::resolve(read, &self.settings, &target, 0) {
            Ok(Resolved::Resource(found)) => found,
            Ok(Resolved::Instance { container, edge }) => {
                address::instance(read, &container, edge, 0).map_err(|_| not_found())?
            }
            Err(_) => return Err(not_found()),
        };
        let path = address::structured(read, &top.record)?;
        self.walk((&top.record, top.expires), path, (0, levels), visit)?;
        Ok(())
    }

    /// The recursion is bounded by the maximum depth of resources.
    fn walk(
        &self,
        (record, expires): (&Record, Option<Seconds>),
        path: String,
        (level, levels): (usize, usize),
        visit: &mut dyn FnMut(InspectedResource),
    ) -> Result<(), StoreError> {
        let all = representation::of_resource(&self.settings, record, expires);
        visit(InspectedResource {
            level,
            address: path.clone(),
            name: record.name.clone(),
            ri: record.ri.clone(),
            root: record.root().into(),
            representation: in_root_element(record, all),
            holders: json!(export::holders(self.store.read(), &self.settings, record)?),
        });
        if level == levels {
            return Ok(());
        }
        let read = self.store.read();
        let mut after = None;
        while let Some(child) = read.next_child(&record.ri, after.as_ref())? {
            let below =
                read.get(&child.ri)?.ok_or_else(|| StoreError::Corrupt(child.ri.clone()))?;
            let expires = earlier(expires, below.expires);
            let path = format!("{path}/{}", below.name);
            self.walk((&below, expires), path, (level + 1, levels), visit)?;
            after = Some(child);
        }
        Ok(())
    }
}

/// Moves the content of a store together, so that its file becomes smaller. Returns whether it did.
///
/// # Errors
/// Returns an error if the file cannot be opened, because the gateway runs, or cannot be written.
pub fn compact(path: &Path) -> Result<bool, InspectionError> {
    Ok(stopped::compact(path)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EmbeddedCse;
    use crate::testing::{Bench, LIGHT1, settings};

    #[test]
    fn stopped_store_is_read() {
        let bench = Bench::with_lights();
        bench.instance(LIGHT1, "/cse/light1/state", json!({"con": "on", "rn": "first"}));
        let (directory, path) = bench.stop();
        let open = || Inspection::open(&path, settings()).unwrap();
        let visited = |from: &str, levels| {
            let mut all = Vec::new();
            open().visit(from, levels, &mut |found| all.push(found)).unwrap();
            all
        };
        let all = visited("cse", usize::MAX);
        let addresses: Vec<_> = all.iter().map(|found| found.address.as_str()).collect();
        let expected = [
            "cse",
            "cse/light1",
            "cse/light1/state",
            "cse/light1/state/first",
            "cse/light2",
            "cse/light2/state",
        ];
        assert_eq!(addresses, expected);
        assert_eq!((all[3].level, all[3].root.as_str()), (3, "m2m:cin"));
        assert_eq!(visited("cse/light1/state/la", 0)[0].representation["m2m:cin"]["con"], "on");
        assert_eq!(visited("Clight-AE1", 1).len(), 2);
        let missing = open().visit("cse/other", 0, &mut |_| {}).unwrap_err();
        assert_eq!(missing.to_string(), "there is no resource at cse/other");
        compact(&path).unwrap();
        assert_eq!(visited("cse", usize::MAX).len(), expected.len());
        drop(EmbeddedCse::open(&path, settings()).unwrap());
        drop(directory);
    }

    #[test]
    fn store_in_use_is_refused() {
        let bench = Bench::with_lights();
        let path = bench.path();
        let refused = Inspection::open(&path, settings()).err().unwrap().to_string();
        assert!(refused.contains("stop it first"), "{refused}");
        compact(&path).unwrap_err();
    }
}
