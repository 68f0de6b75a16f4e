//! The capabilities that modules may have, and the bounds of those with I/O.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::module::capability::Capability;
use crate::module::http_target::Target;

/// Which capabilities a manifest may ask for, and what a module with I/O gets of the world.
#[derive(Clone)]
pub struct Grants {
    /// By every module. Capabilities of WASI are never among them.
    pub any: Vec<Capability>,
    /// By one module, by name.
    pub module: BTreeMap<String, Vec<Capability>>,
    /// The bounds of `outgoing-http`, by module.
    pub outgoing_http: BTreeMap<String, OutgoingHttp>,
    /// The quota of `key-value` in bytes, by module.
    pub key_value: BTreeMap<String, u64>,
    /// The values of `config`, by module.
    pub config: BTreeMap<String, ConfigValues>,
    /// How many calls an instance of one module may live for, where its manifest asks for it.
    pub reuse: BTreeMap<String, u32>,
}

/// The hosts that a module may send HTTP requests to, and bounds on each request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutgoingHttp {
    /// The hosts.
    pub hosts: Vec<Target>,
    /// Content of a request, in bytes.
    pub request_bytes: u64,
    /// Content of an answer, in bytes.
    pub response_bytes: u64,
    /// For a request, from the look-up of the host to the last byte of the answer.
    pub time: Duration,
    /// Requests at a time, of all calls together.
    pub concurrent: usize,
    /// The file of the authorities, in PEM, whose certificates hosts show; those of the system, if none
    /// is named.
    pub ca: Option<PathBuf>,
}

/// The values that a module reads with `config`.
#[derive(Clone, Default)]
pub struct ConfigValues {
    /// Values, by name.
    pub values: BTreeMap<String, String>,
    /// Files that hold secrets, by name. They are read with each generation.
    pub secrets: BTreeMap<String, PathBuf>,
}

impl Default for Grants {
    /// To every module what can do no harm; to none what touches keys.
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
    /// The same, where a module has what those may have whose place it takes.
    pub(crate) fn with_heir(&self, heir: &str, of: &[&str]) -> Self {
        let mut grants = self.clone();
        let inherited = of.iter().filter_map(|name| self.module.get(*name)).flatten();
        grants.module.entry(heir.into()).or_default().extend(inherited);
        inherit(&mut grants.outgoing_http, heir, of);
        inherit(&mut grants.config, heir, of);
        inherit(&mut grants.reuse, heir, of);
        grants
    }

    /// Whose store a module with `key-value` has, and what fits in: its own, or that of the nearest of
    /// those whose place it takes.
    pub(crate) fn store_of<'a>(&self, module: &'a str, of: &'a [String]) -> Option<(&'a str, u64)> {
        let names = std::iter::once(module).chain(of.iter().map(String::as_str));
        names.into_iter().find_map(|name| Some((name, *self.key_value.get(name)?)))
    }

    /// Whether the module of that name may have the capability.
    #[must_use]
    pub fn allow(&self, module: &str, capability: Capability) -> bool {
        // What has limits has them by the module's name.
        (capability.wasi().is_none() && self.any.contains(&capability))
            || self.module.get(module).is_some_and(|own| own.contains(&capability))
    }

    /// Whether some module may wait for I/O.
    pub(crate) fn anybody_waits(&self) -> bool {
        self.module.values().flatten().any(|capability| capability.waits())
    }

    /// Files beside the folders of policy whose content is policy too.
    pub(crate) fn files(&self) -> impl Iterator<Item = &PathBuf> {
        let secrets = self.config.values().flat_map(|config| config.secrets.values());
        secrets.chain(self.outgoing_http.values().filter_map(|http| http.ca.as_ref()))
    }
}

/// A module has what it says of it itself, or else what is said of the nearest whose place it takes.
fn inherit<T: Clone>(table: &mut BTreeMap<String, T>, heir: &str, of: &[&str]) {
    if !table.contains_key(heir)
        && let Some(found) = of.iter().find_map(|name| table.get(*name)).cloned()
    {
        table.insert(heir.into(), found);
    }
}
