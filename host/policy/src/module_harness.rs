//! Runs a single module with a given policy, for the tests of its author.
//!
//! Calls are made as in a gateway, in the same sandbox, and are measured.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use saegis_onem2m::id::CseId;

use crate::data::fault::{Fault, Faults};
use crate::data::files;
use crate::data::parsed_file::ParsedFile;
use crate::data::service_subscription::Subscription;
use crate::data::table::Table;
use crate::decision::originator_allowances::OriginatorAllowances;
use crate::decision::shadows::Shadows;
use crate::decision::token_cache::TokenCache;
use crate::generation::generation::{Generation, PresentFiles};
use crate::host::capabilities::IoCapabilities;
use crate::host::config::Values;
use crate::host::key_value::Stores;
use crate::host::maf_keys::MafKeys;
use crate::host::outgoing_http::{CannedResponse, Outgoing};
use crate::module::capability::Capability;
use crate::module::grants::Grants;
use crate::module::hook::Hook;
use crate::module::inspect::{Description, Needs};
use crate::module::manifest::{Manifest, load_manifest};
use crate::sandbox::engine::Sandbox;
use crate::sandbox::installed::InstalledModule;
use crate::sandbox::instance_cache::InstanceCache;
use crate::sandbox::limits::Limits;
use crate::sandbox::meter::{Meter, Used};
use crate::sandbox::module::Module;

/// A single module for tests.
pub struct ModuleHarness {
    sandbox: Sandbox,
    module: Arc<Module>,
    meter: Arc<Meter>,
    has_manifest: bool,
    /// Instances that are reused, to measure the effect.
    instances: Option<Arc<InstanceCache>>,
}

/// Policy, clock and I/O of a test.
#[derive(Clone)]
pub struct TestContext {
    /// Policy tables, by name.
    pub tables: BTreeMap<String, Arc<Table>>,
    /// Policy files, by name. The module can read those that its manifest lists.
    pub files: BTreeMap<String, Arc<[u8]>>,
    /// The service subscription.
    pub subscription: Option<Arc<Subscription>>,
    /// The keys of MAFs.
    pub maf_keys: Option<Arc<dyn MafKeys>>,
    /// The CSE that the gateway protects.
    pub cse: CseId,
    /// The domain name of its service provider.
    pub service_provider: Option<String>,
    /// Its registrar CSEs.
    pub registrars: Vec<CseId>,
    /// The values that the module reads with `config`, by name.
    pub config: BTreeMap<String, String>,
    /// The responses to its HTTP requests. Other requests fail, and no request is sent.
    pub http: Vec<CannedResponse>,
    /// The content of its store, which is in memory.
    pub key_value: BTreeMap<String, String>,
    /// The quota of its store, in bytes.
    pub quota: u64,
    /// The time that it sees; `None` for the real time.
    pub now: Option<SystemTime>,
    /// Limits of each call. The memory must not exceed that at loading.
    pub limits: Limits,
}

impl ModuleHarness {
    /// Loads a module with the manifest beside it. Without a manifest, every imported capability is
    /// granted. Compiled code is stored in `code_cache`, if there is one.
    ///
    /// # Errors
    /// The faults of the module or its manifest.
    pub async fn load(
        file: &Path,
        limits: &Limits,
        code_cache: Option<&Path>,
    ) -> Result<Self, Faults> {
        let fault = |what: String| Faults(vec![Fault::of(file, what)]);
        let meter = Arc::new(Meter::default());
        let sandbox = Sandbox::metered(limits, code_cache, meter.clone())
            .map_err(|e| fault(format!("cannot create the sandbox: {e:#}")))?;
        let source = files::read(file, limits.module_size).map_err(|f| Faults(vec![f]))?;
        let name = file.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
        let manifest = load_manifest(None, &file.with_extension("toml"), None).map_err(Faults)?;
        let has_manifest = manifest.is_some();
        let without = || Manifest { capabilities: imported(&source.bytes), ..Manifest::default() };
        let manifest = manifest.map_or_else(without, |(manifest, _)| manifest);
        let all = [(name.into(), Capability::ALL.to_vec())].into();
        let grants = Grants { module: all, ..Grants::default() };
        let module = Module::load(&sandbox, &grants, name, file, &source, manifest)
            .map_err(|f| Faults(vec![f]))?;
        module.try_start(&sandbox).await.map_err(|e| fault(format!("cannot be started: {e}")))?;
        meter.take();
        Ok(Self { sandbox, module: Arc::new(module), meter, has_manifest, instances: None })
    }

    /// Returns the exported hooks.
    #[must_use]
    pub fn hooks(&self) -> Vec<Hook> {
        self.module.hooks()
    }

    /// Returns its capabilities.
    #[must_use]
    pub fn capabilities(&self) -> &[Capability] {
        &self.module.capabilities
    }

    /// Returns whether there is a manifest beside it.
    #[must_use]
    pub fn has_manifest(&self) -> bool {
        self.has_manifest
    }

    /// Reuses instances for further calls, as with `reuse`. Earlier instances are dropped.
    pub fn reuse_instances(&mut self) {
        self.instances = Some(Arc::new(InstanceCache::new(u32::MAX)));
    }

    /// Creates a generation with only this module in a context.
    #[must_use]
    pub fn among(&self, around: TestContext) -> Generation {
        let listed = |name: &String| {
            !self.has_manifest || self.module.manifest.files.iter().any(|file| file == name)
        };
        let files = around.files.into_iter().filter(|(name, _)| listed(name)).collect();
        let mut io = IoCapabilities {
            config: Some(Values::given(&around.config)),
            ..IoCapabilities::default()
        };
        if self.module.waits() {
            let store = Stores::in_memory().of(&self.module.name, around.quota);
            store.fill(around.key_value);
            io.store = Some(store);
            io.http = Some(Outgoing::canned(around.http));
        }
        Generation {
            number: 1,
            modules: vec![InstalledModule::alone(
                self.module.clone(),
                files,
                io,
                self.instances.clone(),
            )],
            replaced: Vec::new(),
            shadows: Shadows::none(),
            artifacts: Vec::new(),
            recorder: None,
            allowances: OriginatorAllowances::default(),
            tables: Arc::new(around.tables),
            table_digests: BTreeMap::new(),
            exposed: Vec::new(),
            present: PresentFiles::default(),
            difference: None,
            missed: Vec::new(),
            subscription: around.subscription,
            subscription_file: ParsedFile::default(),
            roles: ParsedFile::default(),
            token_issuers: ParsedFile::default(),
            tokens: TokenCache::default(),
            certificates: None,
            sandbox: Arc::new(self.sandbox.with(around.limits, around.now)),
            service_provider: around.service_provider,
            cse: around.cse,
            registrars: around.registrars,
            maf_keys: around.maf_keys,
            is_maf: false,
        }
    }

    /// Returns and resets the resources that its calls have used.
    #[must_use]
    pub fn used(&self) -> Used {
        self.meter.take()
    }
}

/// Returns the capabilities that a component imports, without duplicates.
fn imported(component: &[u8]) -> Vec<Capability> {
    let imports = Description::of(component).map(|found| found.imports).unwrap_or_default();
    let mut found = Vec::new();
    for import in imports {
        if let Needs::Capability(capability) = import.needs
            && !found.contains(&capability)
        {
            found.push(capability);
        }
    }
    found
}
