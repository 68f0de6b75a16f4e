//! Modules as a generation has them, with their files, grants and instances.

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
pub(crate) struct Installed {
    pub module: Arc<Module>,
    pub files: Arc<Files>,
    /// Its place in its chains.
    pub order: u32,
    /// The modules whose place it has taken.
    pub lineage: Vec<String>,
    /// Its signature, where one is required.
    pub signed: Option<Signed>,
    /// The policy tables that it may read and that its file, or its configuration, has the name of.
    pub tables: Vec<String>,
    /// Its I/O.
    pub io: Arc<IoCapabilities>,
    /// Its instances that are kept for further calls, where that is asked for and allowed.
    pub instances: Option<Arc<InstanceCache>>,
}

impl Installed {
    /// A module that takes nobody's place.
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

    /// Whether two generations have the same here.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.module, &other.module)
            && self.files == other.files
            && self.signed == other.signed
            && self.io.is_same(&other.io)
    }
}

/// Which tables a module reads, as far as can be told without running it: those whose names are in its
/// file or in values that it is configured with. One that may read no table reads none.
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

/// Returns the cache of a module's instances, if it asks for reuse and may have it.
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
            "asks for reuse = {calls}, and the configuration allows {most} calls at the most \
             (modules.reuse.{name})"
        )),
        None => fault(format!(
            "asks for reuse = {calls}, which the configuration does not allow; data of one device can \
             reach another through instances that are reused; allow it by {name} = {calls} under \
             [modules.reuse], if that module may"
        )),
    }
}
