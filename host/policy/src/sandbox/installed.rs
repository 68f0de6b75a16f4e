//! Modules of a generation, with their files, grants and instances.

use std::path::Path;
use std::sync::Arc;

use memchr::memmem;

use crate::data::fault::Fault;
use crate::host::call::Files;
use crate::host::capabilities::IoCapabilities;
use crate::module::capability::Capability;
use crate::module::grants::Grants;
use crate::module::signature::Signed;
use crate::sandbox::instance_cache::InstanceCache;
use crate::sandbox::module::Module;

/// A module of a generation, with the files that its manifest lists.
#[derive(Clone)]
pub(crate) struct InstalledModule {
    pub module: Arc<Module>,
    pub files: Arc<Files>,
    /// Order in its chains.
    pub order: u32,
    /// Names of the modules that it replaces.
    pub lineage: Vec<String>,
    /// Its signature, if one is required.
    pub signed: Option<Signed>,
    /// Names of the policy tables that it may read and that occur in its file or its configuration.
    pub tables: Vec<String>,
    /// Its I/O.
    pub io: Arc<IoCapabilities>,
    /// Its reused instances, if reuse is requested and allowed.
    pub instances: Option<Arc<InstanceCache>>,
}

impl InstalledModule {
    /// Creates a module that replaces no other.
    pub fn alone(
        module: Arc<Module>,
        files: Files,
        io: IoCapabilities,
        instances: Option<Arc<InstanceCache>>,
    ) -> Self {
        let (order, files) = (module.manifest.order, Arc::new(files));
        let io = Arc::new(io);
        let (lineage, tables) = (Vec::new(), Vec::new());
        Self { order, module, files, lineage, signed: None, tables, io, instances }
    }

    /// Whether the answer of a call depends on nothing but its input and the generation, and whether
    /// the call has no effect but its answer.
    pub fn is_pure(&self) -> bool {
        // WASI has clocks and random numbers, and an instance that is reused has a memory.
        !self.module.wasi
            && self.instances.is_none()
            && self.module.capabilities.iter().all(|capability| capability.is_pure())
    }

    /// Returns whether two generations have the same module with the same inputs.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.module, &other.module)
            && self.files == other.files
            && self.signed == other.signed
            && self.io.is_same(&other.io)
    }
}

/// Returns the tables that a module reads, as far as known without running it: those whose names
/// occur in its file or its configured values. A module without that capability reads none.
pub(crate) fn tables_read<'t>(
    module: &Module,
    file: &[u8],
    grants: &Grants,
    tables: impl Iterator<Item = &'t String>,
) -> Vec<String> {
    if !module.capabilities.contains(&Capability::PolicyTables) {
        return Vec::new();
    }
    let values = grants.config.get(&module.name).into_iter().flat_map(|of| of.values.values());
    let values: Vec<&str> = values.map(String::as_str).collect();
    let named = |table: &&String| {
        memmem::find(file, table.as_bytes()).is_some()
            || values.iter().any(|value| value.contains(table.as_str()))
    };
    tables.filter(named).cloned().collect()
}

/// Returns the cache of the instances of a module, if it requests reuse and it is allowed.
pub(crate) fn reuse(
    module: &Module,
    path: &Path,
    grants: &Grants,
) -> Result<Option<InstanceCache>, Fault> {
    let Some(calls) = module.manifest.reuse else { return Ok(None) };
    let name = &module.name;
    let fault = |what: String| Err(Fault::of(&path.with_extension("toml"), what));
    match grants.reuse.get(name) {
        Some(most) if *most >= calls.get() => Ok(Some(InstanceCache::new(calls.get()))),
        Some(most) => fault(format!(
            "requests reuse = {calls}, but the configuration allows at most {most} calls \
             (modules.reuse.{name})"
        )),
        None => fault(format!(
            "requests reuse = {calls}, which the configuration does not allow; data of one device can \
             reach another through a reused instance; to allow it, set {name} = {calls} under \
             [modules.reuse]"
        )),
    }
}
