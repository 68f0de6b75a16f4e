//! I/O of a module. A generation reuses the unchanged parts of the previous one.

use std::path::Path;
use std::sync::Arc;

use crate::data::fault::Fault;
use crate::host::config::Values;
use crate::host::key_value::{Store, Stores};
use crate::host::outgoing_http::Outgoing;
use crate::module::capability::Capability;
use crate::module::grants::Grants;

/// I/O of a module; empty for a module without I/O.
#[derive(Default)]
pub(crate) struct IoCapabilities {
    /// Its HTTP client.
    pub http: Option<Arc<Outgoing>>,
    /// Its store.
    pub store: Option<Arc<Store>>,
    /// Its configuration.
    pub config: Option<Values>,
}

impl IoCapabilities {
    /// Creates the I/O of a module from the settings, or returns the faults. `of` are the modules
    /// that it replaces.
    pub fn of(
        (module, file): (&str, &Path),
        capabilities: &[Capability],
        of: &[String],
        grants: &Grants,
        stores: &Stores,
        last: Option<&IoCapabilities>,
    ) -> Result<Self, Vec<Fault>> {
        let mut io = Self::default();
        let mut faults = Vec::new();
        for capability in capabilities {
            let found = match capability {
                Capability::OutgoingHttp => grants.outgoing_http.get(module).map(|settings| {
                    let last = last.and_then(|last| last.http.as_ref());
                    Outgoing::of(settings, last).map(|http| io.http = Some(http))
                }),
                Capability::KeyValue => grants.store_of(module, of).map(|(name, quota)| {
                    io.store = Some(stores.of(name, quota));
                    Ok(())
                }),
                Capability::Config => grants
                    .config
                    .get(module)
                    .map(|settings| Values::read(settings).map(|values| io.config = Some(values))),
                Capability::PolicyTables
                | Capability::PolicyFiles
                | Capability::Log
                | Capability::Clock
                | Capability::SupplyKeyBytes
                | Capability::ReadStoredKeys
                | Capability::ServiceSubscription
                | Capability::MafKeys => continue,
            };
            match found {
                Some(Ok(())) => {}
                Some(Err(found)) => faults.extend(found),
                None => {
                    let what = format!(
                        "has the capability {capability}, which is not configured; \
                         add [modules.{capability}.{module}]"
                    );
                    faults.push(Fault::of(file, what));
                }
            }
        }
        if faults.is_empty() { Ok(io) } else { Err(faults) }
    }

    /// Returns whether two generations have the same I/O for a module.
    pub fn is_same(&self, other: &Self) -> bool {
        let same_http = match (&self.http, &other.http) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (a, b) => a.is_none() && b.is_none(),
        };
        let same_store = match (&self.store, &other.store) {
            (Some(a), Some(b)) => a.is_same(b),
            (a, b) => a.is_none() && b.is_none(),
        };
        same_http && same_store && self.config == other.config
    }
}
