//! Capabilities that modules may have, and the limits of those with I/O.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::module::capability::Capability;
use crate::module::http_target::Target;

/// Capabilities that a manifest may request, and the resources of modules with I/O.
#[derive(Clone)]
pub struct Grants {
    /// Capabilities of every module. Those of WASI are never included.
    pub any: Vec<Capability>,
    /// Capabilities of one module, by name.
    pub module: BTreeMap<String, Vec<Capability>>,
    /// Limits of `outgoing-http`, by module.
    pub outgoing_http: BTreeMap<String, OutgoingHttp>,
    /// Quota of `key-value` in bytes, by module.
    pub key_value: BTreeMap<String, u64>,
    /// Values of `config`, by module.
    pub config: BTreeMap<String, ConfigValues>,
    /// Maximum number of calls of one instance of a module, if its manifest requests reuse.
    pub reuse: BTreeMap<String, u32>,
}

/// Hosts for the HTTP requests of a module, and limits of each request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutgoingHttp {
    /// The hosts.
    pub hosts: Vec<Target>,
    /// Maximum content of a request, in bytes.
    pub request_bytes: u64,
    /// Maximum content of a response, in bytes.
    pub response_bytes: u64,
    /// Timeout of a request, from the name lookup to the last byte of the response.
    pub time: Duration,
    /// Maximum number of concurrent requests of all calls together.
    pub concurrent: usize,
    /// File with trust anchors for the hosts, in PEM; by default those of the system.
    pub ca: Option<PathBuf>,
}

/// Values that a module reads with `config`.
#[derive(Clone, Default)]
pub struct ConfigValues {
    /// Values, by name.
    pub values: BTreeMap<String, String>,
    /// Files with secrets, by name. They are read for each generation.
    pub secrets: BTreeMap<String, PathBuf>,
}

impl Default for Grants {
    /// Grants harmless capabilities to every module, and capabilities related to keys to none.
    fn default() -> Self {
        Self {
            any: vec![
                Capability::PolicyTables,
                Capability::Log,
                Capability::Clock,
                Capability::ServiceSubscription,
            ],
            module: BTreeMap::new(),
            outgoing_http: BTreeMap::new(),
            key_value: BTreeMap::new(),
            config: BTreeMap::new(),
            reuse: BTreeMap::new(),
        }
    }
}

impl Grants {
    /// Returns the grants with those that a module inherits from the modules that it replaces.
    pub(crate) fn with_heir(&self, heir: &str, of: &[&str]) -> Self {
        let mut grants = self.clone();
        let inherited = of.iter().filter_map(|name| self.module.get(*name)).flatten();
        grants.module.entry(heir.into()).or_default().extend(inherited);
        inherit(&mut grants.outgoing_http, heir, of);
        inherit(&mut grants.config, heir, of);
        inherit(&mut grants.reuse, heir, of);
        grants
    }

    /// Returns the name and quota of the store of a module with `key-value`: its own, or that of
    /// the nearest module that it replaces.
    pub(crate) fn store_of<'a>(&self, module: &'a str, of: &'a [String]) -> Option<(&'a str, u64)> {
        let names = std::iter::once(module).chain(of.iter().map(String::as_str));
        names.into_iter().find_map(|name| Some((name, *self.key_value.get(name)?)))
    }

    /// Returns whether the module of that name may have the capability.
    #[must_use]
    pub fn allow(&self, module: &str, capability: Capability) -> bool {
        // Capabilities with limits are granted by name only.
        (capability.wasi().is_none() && self.any.contains(&capability))
            || self.module.get(module).is_some_and(|own| own.contains(&capability))
    }

    /// Returns whether any module may use I/O.
    pub(crate) fn anybody_waits(&self) -> bool {
        self.module.values().flatten().any(|capability| capability.waits())
    }

    /// Returns the files outside the policy folders whose content belongs to the policy.
    pub(crate) fn files(&self) -> impl Iterator<Item = &PathBuf> {
        let secrets = self.config.values().flat_map(|config| config.secrets.values());
        secrets.chain(self.outgoing_http.values().filter_map(|http| http.ca.as_ref()))
    }
}

/// Copies an entry of the nearest replaced module, unless the module has its own.
fn inherit<T: Clone>(table: &mut BTreeMap<String, T>, heir: &str, of: &[&str]) {
    if !table.contains_key(heir)
        && let Some(found) = of.iter().find_map(|name| table.get(*name)).cloned()
    {
        table.insert(heir.into(), found);
    }
}
