//! What whoever runs the gateway decides about modules.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use saegis_certificate::Names;
use saegis_onem2m::id::CseId;
use sha2::{Digest as _, Sha256};

use crate::data::files;
use crate::decision::record::Recorder;
use crate::generation::oci_artifacts::Artifacts;
use crate::host::key_value::Stores;
use crate::host::maf_keys::MafKeys;
use crate::host::outgoing_http::Target;
use crate::module::capability::Capability;
use crate::module::signature::Required;
use crate::sandbox::observer::Observer;

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
    /// Who fetches artifacts of registries, where some are configured.
    pub artifacts: Option<Arc<dyn Artifacts>>,
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
    /// Where modules with `key-value` keep their values.
    pub stores: Arc<Stores>,
    /// Is told of each call of a module.
    pub observer: Option<Arc<dyn Observer>>,
    /// Takes decisions down.
    pub recorder: Option<Arc<dyn Recorder>>,
    /// What is taken for being otherwise than it is on disk.
    pub changes: Changes,
    /// Whether tables with keys are taken that every user of the machine may read.
    pub allow_readable_tables: bool,
    /// The file of the configuration, which counts from the next start, as it was at this one.
    pub configuration: Option<ConfigurationFile>,
}

/// The file of a configuration, as it was when it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigurationFile {
    /// The file.
    pub path: PathBuf,
    /// SHA-256 of what was in it.
    pub digest: [u8; 32],
}

impl ConfigurationFile {
    /// The file of a configuration in which this was found. What is read from a pipe does not change.
    #[must_use]
    pub fn of(path: &Path, found: &[u8]) -> Option<Self> {
        let is_file = std::fs::metadata(path).is_ok_and(|meta| meta.is_file());
        is_file.then(|| Self { path: path.into(), digest: Sha256::digest(found).into() })
    }

    /// Maximum size, in bytes. A configuration is a few lines; this bounds what is read where it is
    /// something else.
    pub const MAX_SIZE: u64 = 1 << 20;

    /// Whether there is something else in it now, or it can't be read.
    pub(crate) fn has_changed(&self) -> bool {
        let now = files::read(&self.path, Self::MAX_SIZE);
        now.map_or(true, |now| now.digest != self.digest)
    }
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
    /// Time of one call of a module that waits for I/O, the waiting included.
    pub waiting_deadline: Duration,
    /// Calls of such modules at a time. They take nothing from `concurrent_calls`.
    pub waiting_calls: usize,
    /// Size of a module file, in bytes.
    pub module_size: u64,
    /// Size of a policy file, in bytes.
    pub file_size: u64,
    /// Time to load a generation, for a file system may never answer.
    pub load_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            deadline: Duration::from_millis(50),
            memory: 16 << 20,
            concurrent_calls: 128,
            waiting_deadline: Duration::from_secs(5),
            waiting_calls: 1024,
            module_size: 64 << 20,
            file_size: 512 << 20,
            load_time: Duration::from_secs(60),
        }
    }
}

/// Which capabilities a manifest may ask for, and what a module with I/O gets of the world.
#[derive(Clone)]
pub struct Grants {
    /// By every module. Capabilities of WASI are never among them.
    pub any: Vec<Capability>,
    /// By one module, by name.
    pub module: BTreeMap<String, Vec<Capability>>,
    /// What `outgoing-http` is of one module.
    pub outgoing_http: BTreeMap<String, OutgoingHttp>,
    /// What `key-value` is of one module: bytes that it may store.
    pub key_value: BTreeMap<String, u64>,
    /// What `config` is of one module.
    pub config: BTreeMap<String, ConfigValues>,
    /// How many calls an instance of one module may live for, where its manifest asks for it.
    pub reuse: BTreeMap<String, u32>,
}

/// Where a module may send HTTP requests, and bounds on each of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutgoingHttp {
    /// Where to.
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

/// What a module reads with `config`.
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
