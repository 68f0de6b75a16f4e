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
    /// Folder of policy files: policy tables `*.csv`, and files that manifests list.
    pub policies: PathBuf,
    /// The folder of modules, `NAME.wasm`, and their manifests, `NAME.toml`.
    pub modules: PathBuf,
    /// Folder in which compiled modules are cached between starts; `None` to compile at each start.
    /// No other user may be able to write to it, because its content is executed.
    pub code_cache: Option<PathBuf>,
    /// Names of modules that must be present. Without one of them, a generation is rejected.
    pub required: Vec<String>,
    /// Names of policy files that must be present. Without one of them, a generation is rejected.
    pub required_files: Vec<String>,
    /// Keys that must have signed modules and manifests; `None` if no signature is required.
    pub signatures: Option<Required>,
    /// Source of artifacts, if registries are configured.
    pub artifacts: Option<Arc<dyn ArtifactSource>>,
    /// CSE whose rules of the service subscription apply.
    pub cse: CseId,
    /// Whether the service subscription is a policy file. Otherwise the caller of a registration
    /// check provides it.
    pub subscription_file: bool,
    /// Domain name of the service provider, for modules.
    pub service_provider: Option<String>,
    /// Registrar CSEs of this CSE: they forward requests of others.
    pub registrars: Vec<CseId>,
    /// IN-CSE of the service provider, if it is known.
    pub in_cse: Option<CseId>,
    /// Other CSEs with known CSE-IDs.
    pub known_cses: Vec<CseId>,
    /// Keys of MAFs, if MAFs are configured.
    pub maf_keys: Option<Arc<dyn MafKeys>>,
    /// Whether this is a MAF or a MEF, whose clients are identified by absolute identifiers.
    pub is_maf: bool,
    /// Whether this is a MAF, which needs a key-registration check.
    pub distributes_keys: bool,
    /// Limits of each call.
    pub limits: Limits,
    /// Capabilities that manifests may request.
    pub grants: Grants,
    /// Stores of modules with `key-value`.
    pub stores: Arc<Stores>,
    /// Observer of module calls.
    pub observer: Option<Arc<dyn Observer>>,
    /// Recorder of decisions.
    pub recorder: Option<Arc<dyn Recorder>>,
    /// Changes to the files on disk, applied in memory.
    pub changes: Changes,
    /// Whether tables with keys are accepted that every user of the machine can read.
    pub allow_readable_tables: bool,
    /// File of the configuration at the start, to detect changes. A change applies from the next
    /// start.
    pub configuration: Option<ConfigurationFile>,
}

/// File of a configuration, as it was when it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigurationFile {
    /// The file.
    pub path: PathBuf,
    /// SHA-256 of its content.
    pub digest: [u8; 32],
}

impl ConfigurationFile {
    /// Creates it for a file with this content. Returns `None` for a pipe, which does not change.
    #[must_use]
    pub fn of(path: &Path, found: &[u8]) -> Option<Self> {
        let is_file = std::fs::metadata(path).is_ok_and(|meta| meta.is_file());
        is_file.then(|| Self { path: path.into(), digest: Sha256::digest(found).into() })
    }

    /// Maximum size, in bytes. A configuration is short; the limit bounds reading another file by
    /// mistake.
    pub const MAX_SIZE: u64 = 1 << 20;

    /// Returns whether its content has changed, or it cannot be read.
    pub(crate) fn has_changed(&self) -> bool {
        let now = files::read(&self.path, Self::MAX_SIZE);
        now.map_or(true, |now| now.digest != self.digest)
    }
}

/// Changes to the files on disk that are applied in memory, to show their effect.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// Modules outside the folder, by name.
    pub modules: BTreeMap<String, PathBuf>,
    /// Text of manifests, by the names of their modules.
    pub manifests: BTreeMap<String, String>,
}

impl Settings {
    /// Returns the names for the verification of certificates.
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
