//! Loads a configuration and finds all its faults, each with its position.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use saegis_cse::Definitions;
use saegis_policy::{
    ArtifactSource, Changes, ConfigurationFile, Document, Fault, Faults, Limits, Observer,
    Settings, Stores,
};
use serde::de::DeserializeOwned;

use super::folders::Folders;
use super::renamed;
use super::sections::{RuleSource, ThisCse};
use super::server_config::{Config, Role};
use crate::config::maf_file::MafConfig;
use crate::config::oci_registry::ArtifactFetcher;
use saegis_onem2m::cse::CseKind;

/// A loaded configuration.
pub struct Loaded {
    /// The configuration, if it could be parsed.
    pub config: Option<Config>,
    /// All faults.
    pub faults: Vec<Fault>,
    /// Whether the parts about policy and modules are valid.
    pub policy_is_known: bool,
}

impl Loaded {
    fn without_faults(self) -> Result<Config, Faults> {
        self.config.filter(|_| self.faults.is_empty()).ok_or(Faults(self.faults))
    }
}

/// Parses a TOML file, and finds all its faults with their positions.
///
/// # Errors
/// Fails if the file cannot be read or is invalid.
pub fn read<T: DeserializeOwned>(file: &Path) -> Result<T, Faults> {
    let text = text(file)?;
    let mut document = Document::parse(file, &text);
    let read = document.read();
    let faults = document.into_faults();
    read.filter(|_| faults.is_empty()).ok_or(Faults(faults))
}

/// Returns the text of a configuration, if its size is within the limit.
///
/// # Errors
/// Fails if the file cannot be read or is too large.
fn text(file: &Path) -> Result<String, Faults> {
    let fault = |what: String| Faults(vec![Fault::of(file, what)]);
    let size = std::fs::metadata(file).map_or(0, |meta| meta.len());
    if size > ConfigurationFile::MAX_SIZE {
        return Err(fault(format!("is larger than {} bytes", ConfigurationFile::MAX_SIZE)));
    }
    let bytes = std::fs::read(file).map_err(|e| fault(format!("cannot be read: {e}")))?;
    let text = saegis_policy::decode(file, &bytes).map_err(|fault| Faults(vec![fault]))?;
    Ok(text.into())
}

impl ThisCse {
    /// Returns the settings of the embedded CSE.
    ///
    /// # Errors
    /// Fails if the file of definitions cannot be read or is invalid.
    pub fn settings(&self) -> Result<saegis_cse::Settings, Faults> {
        let mut settings = saegis_cse::Settings::new(self.cse_id.clone(), &self.csebase_name);
        settings.cse_type = self.kind.number();
        settings.service_provider.clone_from(&self.service_provider);
        settings.points_of_access.clone_from(&self.point_of_access);
        settings.administrators.clone_from(&self.administrators);
        settings.observers.clone_from(&self.observers);
        settings.ae_id_taken = self.ae_id_taken_rsc;
        let quota = &self.quota;
        settings.limits.max_resources_per_registree = quota.resources;
        settings.limits.max_bytes_per_registree = quota.bytes;
        let limits = &self.limits;
        settings.limits.max_instances = limits.instances;
        settings.limits.max_container_bytes = limits.container_bytes;
        settings.limits.max_content_bytes = limits.content_bytes;
        settings.limits.max_resources = limits.resources;
        if let Some(own) = self.own_definitions()? {
            let mut definitions = Definitions::home();
            definitions.extend(own);
            settings.definitions = Arc::new(definitions);
        }
        Ok(settings)
    }

    /// Reads the file of the operator's definitions of `<flexContainer>`s.
    ///
    /// # Errors
    /// Fails if the file cannot be read or is invalid.
    pub fn own_definitions(&self) -> Result<Option<Definitions>, Faults> {
        let Some(file) = &self.definitions else { return Ok(None) };
        let read = Definitions::parse(&text(file)?);
        read.map(Some).map_err(|e| Faults(vec![Fault::of(file, e.to_string())]))
    }
}

impl Config {
    /// Loads and checks a configuration for a command. Files that only a running gateway needs are not
    /// checked, so that a gateway can be administered while one of them is missing.
    ///
    /// # Errors
    /// Returns all faults.
    pub fn load(file: &Path) -> Result<Self, Faults> {
        Self::read(file, false).without_faults()
    }

    /// Loads and checks a configuration with its files, for a gateway that starts.
    ///
    /// # Errors
    /// Returns all faults.
    pub fn load_to_run(file: &Path) -> Result<Self, Faults> {
        Self::look_at(file).without_faults()
    }

    /// Loads and checks the configuration of a gateway, of a MAF if it has `[maf]`, or of a MEF if it
    /// has `[mef]`. Continues after a fault.
    pub fn look_at(file: &Path) -> Loaded {
        Self::read(file, true)
    }

    fn read(file: &Path, with_files: bool) -> Loaded {
        let text = match text(file) {
            Ok(text) => text,
            Err(Faults(faults)) => {
                return Loaded { config: None, faults, policy_is_known: false };
            }
        };
        let mut document = Document::parse(file, &text);
        renamed::refuse(&mut document);
        let is_mef = document.has_table("mef");
        let mut config: Option<Self> = if document.has_table("maf") || is_mef {
            if is_mef {
                let what = "a process is either a MAF or a MEF; use two configurations";
                document.refuse("maf", what);
            }
            document.read().and_then(MafConfig::into_config)
        } else {
            document.refuse("maf", "is now called [[maf-peer]]");
            document.read()
        };
        if let Some(config) = &mut config {
            config.check(&mut document);
            let state = std::env::var_os("STATE_DIRECTORY");
            config.place(&Folders::new(file, config.state_folder.as_deref(), state));
            if let Some(remote) = config.admin.web.remote.as_ref().filter(|_| with_files)
                && !document.is_faulty("admin.web.remote")
            {
                remote.check_files(&mut document);
            }
            config.file = ConfigurationFile::of(file, text.as_bytes());
        }
        let definitions = config.as_ref().map(|config| config.cse.own_definitions());
        let policy_is_known = !["cse", "maf", "mef", "maf-peer", "policy", "modules", "artifacts"]
            .into_iter()
            .any(|table| document.is_faulty(table));
        let mut faults = document.into_faults();
        if let Some(Err(Faults(of_definitions))) = definitions {
            faults.extend(of_definitions);
        }
        Loaded { config, faults, policy_is_known }
    }

    /// Resolves paths relative to the folder of the configuration, or to the state folder.
    pub fn place(&mut self, folders: &Folders) {
        self.state_folder = Some(folders.state.clone());
        self.artifacts.place(folders);
        if let Some(remote) = &mut self.admin.web.remote {
            remote.place(folders);
        }
        self.modules.place(folders);
        let paths = [
            &mut self.policy.folder,
            &mut self.cse.store,
            &mut self.ae_ids.store,
            &mut self.mqtt.store,
            &mut self.service_subscription.store,
            &mut self.admin.socket,
        ];
        let of_role = self.role.paths_mut();
        let of_lines = self.audit.paths_mut().chain(self.decisions.record.as_mut());
        let definitions = self.cse.definitions.as_mut();
        let of_cse = self.upstream.iter_mut().map(|cse| &mut cse.notification_key_file);
        for path in
            paths.into_iter().chain(of_lines).chain(of_role).chain(of_cse).chain(definitions)
        {
            folders.place(path);
        }
    }

    /// Returns the settings of the policy runtime.
    pub fn policy_settings(&self, observer: Option<Arc<dyn Observer>>) -> Settings {
        Settings {
            policies: self.policy.folder.clone(),
            modules: self.modules.folder.clone(),
            code_cache: Some(self.modules.code_cache.clone()),
            required: self.modules.required.clone(),
            required_files: self.policy.required.clone(),
            signatures: self.modules.require_signature.as_ref().map(|keys| keys.required()),
            artifacts: (!self.artifacts.registry.is_empty()).then(|| {
                Arc::new(ArtifactFetcher::new(&self.artifacts)) as Arc<dyn ArtifactSource>
            }),
            cse: self.cse.cse_id.clone(),
            registrars: self.peer.iter().filter(|p| p.register).map(|p| p.cse_id.clone()).collect(),
            in_cse: match (&self.role, self.cse.kind) {
                (Role::Maf(_), _) => None,
                (Role::Mef(mef), _) => mef.in_cse.clone(),
                (Role::Cse, CseKind::In) => Some(self.cse.cse_id.clone()),
                (Role::Cse, CseKind::Mn) => {
                    let registrar = self.peer.iter().find(|peer| peer.register);
                    registrar.map(|peer| peer.cse_id.clone())
                }
            },
            known_cses: self.peer.iter().map(|peer| peer.cse_id.clone()).collect(),
            maf_keys: None,
            recorder: None,
            changes: Changes::default(),
            allow_readable_tables: self.policy.allow_readable_tables,
            configuration: self.file.clone(),
            is_maf: !self.role.is_cse(),
            distributes_keys: self.role.maf().is_some(),
            subscription_file: self.service_subscription.source == RuleSource::PolicyFile,
            service_provider: self.cse.service_provider.clone(),
            limits: Limits {
                load_time: Duration::from_secs(self.policy.load_seconds),
                ..self.modules.limits(self.limits.handshake())
            },
            grants: self.modules.grants(),
            stores: Arc::new(Stores::in_folder(self.modules.key_value_folder.clone())),
            observer,
        }
    }
}
