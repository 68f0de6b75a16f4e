//! Settings of the policy runtime.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use saegis_certificate::Names;
use saegis_onem2m::id::CseId;
use sha2::{Digest as _, Sha256};

use crate::data::files;
use crate::decision::record::Recorder;
use crate::host::key_value::Stores;
use crate::host::maf_keys::MafKeys;
use crate::module::artifact_source::ArtifactSource;
use crate::module::grants::Grants;
use crate::module::signature::Required;
use crate::sandbox::limits::Limits;
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
    /// The source of artifacts, where registries are configured.
    pub artifacts: Option<Arc<dyn ArtifactSource>>,
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
    /// The keys of MAFs, where MAFs are configured.
    pub maf_keys: Option<Arc<dyn MafKeys>>,
    /// Whether this is a MAF: then there must be a check of registrations of keys.
    pub is_maf: bool,
    /// Bounds on each call.
    pub limits: Limits,
    /// Capabilities that manifests may ask for.
    pub grants: Grants,
    /// The stores of modules with `key-value`.
    pub stores: Arc<Stores>,
    /// Is told of each call of a module.
    pub observer: Option<Arc<dyn Observer>>,
    /// Takes decisions down.
    pub recorder: Option<Arc<dyn Recorder>>,
    /// Changes to the files on disk, as if they were made.
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

/// Changes to the files on disk, as if they were made, to know their effect.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// Modules that are elsewhere than in their folder, by name.
    pub modules: BTreeMap<String, PathBuf>,
    /// The text of manifests, by the names of their modules.
    pub manifests: BTreeMap<String, String>,
}

impl Settings {
    /// Returns the names that certificates are checked against.
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
