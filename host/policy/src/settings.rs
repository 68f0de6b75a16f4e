//! What whoever runs the gateway decides about modules.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use saegis_certificate::Names;
use saegis_onem2m::id::CseId;

use crate::artefact::Artefacts;
use crate::capability::Capability;
use crate::maf::MafKeys;
use crate::observe::Observer;
use crate::record::Recorder;
use crate::signature::Required;

/// Settings of the policy runtime.
#[derive(Clone)]
pub struct Settings {
    /// The folder of policy files: `*.csv` are policy tables, and those that manifests list.
    pub policies: PathBuf,
    /// The folder of modules, `NAME.wasm`, and their manifests, `NAME.toml`.
    pub modules: PathBuf,
    /// Where compiled modules are kept between starts; `None` to compile at each start. The
    /// folder must be writable by nobody else: what is in it is run.
    pub code_cache: Option<PathBuf>,
    /// Modules that must be installed, by name: without them there is no generation.
    pub required: Vec<String>,
    /// Whose signatures modules and manifests must have; `None`, and they need none.
    pub signatures: Option<Required>,
    /// Who fetches artefacts of registries, where some are configured.
    pub artefacts: Option<Arc<dyn Artefacts>>,
    /// The CSE whose rules of the service subscription count.
    pub cse: CseId,
    /// Whether the service subscription is a policy file; if not, whoever asks for a registration
    /// brings it along.
    pub subscription_file: bool,
    /// The domain name of the service provider, which modules are told.
    pub service_provider: Option<String>,
    /// The CSEs that this one registers with: they pass on what those behind them ask.
    pub registrars: Vec<CseId>,
    /// The IN-CSE of the service provider, if it is known.
    pub in_cse: Option<CseId>,
    /// Other CSEs that are known by their CSE-IDs.
    pub known_cses: Vec<CseId>,
    /// Who fetches keys of MAFs, where there are some.
    pub maf_keys: Option<Arc<dyn MafKeys>>,
    /// Whether this is a MAF: then there must be a check of registrations of keys.
    pub is_maf: bool,
    /// Bounds on each call.
    pub limits: Limits,
    /// Capabilities that manifests may ask for.
    pub grants: Grants,
    /// Is told of each call of a module.
    pub observer: Option<Arc<dyn Observer>>,
    /// Takes decisions down.
    pub recorder: Option<Arc<dyn Recorder>>,
    /// What is taken for being otherwise than it is on disk.
    pub changes: Changes,
}

/// What is taken for being otherwise than it is on disk, to know what would come of it.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// Modules that are elsewhere than in their folder, by name.
    pub modules: BTreeMap<String, PathBuf>,
    /// The text of manifests, by the names of their modules.
    pub manifests: BTreeMap<String, String>,
}

impl Settings {
    /// What certificates are held against.
    #[must_use]
    pub fn names(&self) -> Names {
        let (cse, service_provider) = (self.cse.clone(), self.service_provider.clone());
        Names {
            in_cse: self.in_cse.clone(),
            known: self.known_cses.clone(),
            of_any_cse: self.is_maf,
            ..Names::of(cse, service_provider)
        }
    }
}

/// Bounds on what modules may use.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Computing time of one call.
    pub deadline: Duration,
    /// Linear memory of one call, in bytes, all memories together.
    pub memory: usize,
    /// Calls at a time; further ones wait.
    pub concurrent_calls: usize,
    /// Size of a module file, in bytes.
    pub module_size: u64,
    /// Size of a policy file, in bytes.
    pub file_size: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            deadline: Duration::from_millis(50),
            memory: 16 << 20,
            concurrent_calls: 128,
            module_size: 64 << 20,
            file_size: 512 << 20,
        }
    }
}

/// Which capabilities a manifest may ask for.
#[derive(Debug, Clone)]
pub struct Grants {
    /// By every module.
    pub any: Vec<Capability>,
    /// By one module, by name.
    pub module: BTreeMap<String, Vec<Capability>>,
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
        }
    }
}

impl Grants {
    /// The same, where a module has what those may have whose place it takes.
    pub(crate) fn with_heir(&self, heir: &str, of: &[&str]) -> Self {
        let mut grants = self.clone();
        let inherited = of.iter().filter_map(|name| self.module.get(*name)).flatten();
        grants.module.entry(heir.into()).or_default().extend(inherited);
        grants
    }

    /// Whether the module of that name may have the capability.
    #[must_use]
    pub fn allow(&self, module: &str, capability: Capability) -> bool {
        self.any.contains(&capability)
            || self.module.get(module).is_some_and(|own| own.contains(&capability))
    }
}
