//! Reading a configuration: everything that is wrong with it, each with its place.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use saegis_onem2m::credential::{KeyStrength, PresharedKey};
use saegis_onem2m::id::check_fqdn;
use saegis_policy::{
    ArtifactSource, Changes, ConfigurationFile, Document, Fault, Faults, Limits, Observer,
    Settings, Stores,
};
use serde::de::DeserializeOwned;
use tracing_subscriber::EnvFilter;

use super::renamed;
use super::sections::RuleSource;
use super::server_config::Config;
use crate::config::maf_file::MafConfig;
use crate::config::oci_registry::ArtifactFetcher;
use crate::session::response_memory;
use saegis_onem2m::cse::CseKind;

/// A configuration as it was found.
pub struct Loaded {
    /// What it says, as far as it could be read.
    pub config: Option<Config>,
    /// All that is wrong with it.
    pub faults: Vec<Fault>,
    /// Whether what it says of policy and modules is as it was meant.
    pub policy_is_known: bool,
}

/// Reads a TOML file, and says all that is wrong with it, each with its place.
///
/// # Errors
/// When the file can't be read, or is not as it should be.
pub fn read<T: DeserializeOwned>(file: &Path) -> Result<T, Faults> {
    let text = text(file)?;
    let mut document = Document::parse(file, &text);
    let read = document.read();
    let faults = document.into_faults();
    read.filter(|_| faults.is_empty()).ok_or(Faults(faults))
}

/// The text of a configuration, if it is not too large for one.
///
/// # Errors
/// When the file can't be read, or is too large.
fn text(file: &Path) -> Result<String, Faults> {
    let fault = |what: String| Faults(vec![Fault::of(file, what)]);
    let size = std::fs::metadata(file).map_or(0, |meta| meta.len());
    if size > ConfigurationFile::MAX_SIZE {
        return Err(fault(format!("is larger than {} bytes", ConfigurationFile::MAX_SIZE)));
    }
    let bytes = std::fs::read(file).map_err(|e| fault(format!("can't be read: {e}")))?;
    let text = saegis_policy::decode(file, &bytes).map_err(|fault| Faults(vec![fault]))?;
    Ok(text.into())
}

impl Config {
    /// Reads and checks a configuration.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn load(file: &Path) -> Result<Self, Faults> {
        let Loaded { config, faults, .. } = Self::look_at(file);
        config.filter(|_| faults.is_empty()).ok_or(Faults(faults))
    }

    /// Reads and checks the configuration of a gateway, or of a MAF if it has `[maf]`, and goes on where
    /// something is wrong with it.
    pub fn look_at(file: &Path) -> Loaded {
        let text = match text(file) {
            Ok(text) => text,
            Err(Faults(faults)) => {
                return Loaded { config: None, faults, policy_is_known: false };
            }
        };
        let mut document = Document::parse(file, &text);
        renamed::refuse(&mut document);
        let mut config: Option<Self> = if document.has_table("maf") {
            document.read().map(MafConfig::into_config)
        } else {
            document.refuse("maf", "is called [[maf-peer]] now");
            document.read()
        };
        if let Some(config) = &mut config {
            config.check(&mut document);
            config.place(file.parent().unwrap_or(Path::new("")));
            config.file = ConfigurationFile::of(file, text.as_bytes());
        }
        let policy_is_known = !["cse", "maf", "maf-peer", "policy", "modules", "artifacts"]
            .into_iter()
            .any(|table| document.is_faulty(table));
        Loaded { config, faults: document.into_faults(), policy_is_known }
    }

    /// Paths are relative to the configuration's own folder.
    pub fn place(&mut self, base: &Path) {
        self.artifacts.place(base);
        self.modules.place(base);
        let paths = [
            &mut self.policy.folder,
            &mut self.registrar.store,
            &mut self.ae_ids.store,
            &mut self.service_subscription.store,
            &mut self.admin.socket,
        ];
        let of_maf = self
            .role
            .maf_mut()
            .into_iter()
            .flat_map(|maf| std::iter::once(&mut maf.store).chain(maf.store_key_file.as_mut()));
        let of_lines = self.audit.paths_mut().chain(self.decisions.record.as_mut());
        let of_cse = self.upstream.iter_mut().map(|cse| &mut cse.notification_key_file);
        for path in paths.into_iter().chain(of_lines).chain(of_maf).chain(of_cse) {
            *path = base.join(&*path);
        }
    }

    /// What no type can say.
    pub fn check(&self, document: &mut Document<'_>) {
        let mut fault = |entry: &str, what: &str| document.add_fault(entry, what);
        let name = &self.cse.csebase_name;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '~' | '-');
        if name.is_empty() || name == "-" || !name.chars().all(plain) {
            fault("cse.csebase-name", &format!("{name:?} is no resource name"));
        }
        if let Some(sp) = &self.cse.service_provider
            && let Err(e) = check_fqdn(sp)
        {
            fault("cse.service-provider", &format!("{sp:?} {e}"));
        }
        if let Some(upstream) = &self.upstream {
            let url = &upstream.url;
            let plain = url.scheme_str() == Some("http")
                && url.authority().is_some()
                && url.path().trim_end_matches('/').is_empty()
                && url.query().is_none();
            if !plain {
                fault("upstream.url", &format!("{url} is not of the form http://host:port"));
            }
            if upstream.notification_listen.as_ref().is_some_and(|a| !a.is_loopback()) {
                let what = "must be of the loopback interface, such as 127.0.0.1:8081, for whoever \
                            reaches it speaks as the CSE behind";
                fault("upstream.notification-listen", what);
            }
            if upstream.notification_listen.is_none() && upstream.notification_uid.is_some() {
                let what = "is of no use without upstream.notification-listen";
                fault("upstream.notification-uid", what);
            }
        }
        let subscription = &self.service_subscription;
        match subscription.source {
            RuleSource::Remote if !self.peer.iter().any(|peer| peer.register) => {
                let what = "remote: this CSE must register with the IN-CSE that has the rules; add \
                            a [[peer]] with register = true";
                fault("service-subscription.source", what);
            }
            RuleSource::Registrar if self.upstream.is_some() => {
                let what = "there is no embedded registrar where upstream.url is another CSE";
                fault("service-subscription.source", what);
            }
            RuleSource::PolicyFile | RuleSource::Registrar | RuleSource::Remote => {}
        }
        if subscription.refresh_seconds == 0 {
            fault("service-subscription.refresh-seconds", "must be at least 1");
        }
        for (nth, maf) in self.maf_peer.iter().enumerate() {
            let mut fault =
                |what: String| document.add_fault("maf-peer", &format!("{}: {what}", maf.fqdn));
            if self.cse.service_provider.is_none() {
                fault(
                    "cse.service-provider must be known, for MAFs name their clients by it".into(),
                );
            }
            if self.maf_peer.iter().take(nth).any(|other| other.fqdn == maf.fqdn) {
                fault("stands twice".into());
            }
            let port = maf.address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
            if port.is_none() {
                fault(format!("address {:?} is not of the form host:port", maf.address));
            }
            if maf.timeout_seconds == 0 {
                fault("timeout-seconds must be at least 1".into());
            }
            if let Some(credential) = &maf.credential
                && let Err(e) = KeyStrength::of(credential.kpsa.expose(), PresharedKey::MIN_OF_MAF)
            {
                fault(format!("its km {e}"));
            }
        }
        self.artifacts.check(document);
        crate::config::peer::check(&self.peer, &self.cse, document);
        self.modules.check(self.limits.handshake(), document);
        let mut fault = |entry: &str, what: &str| document.add_fault(entry, what);
        let bounds = &self.limits;
        for (entry, value) in [
            ("limits.connections", bounds.connections as u64),
            ("limits.handshakes", bounds.handshakes as u64),
            ("limits.handshakes-per-peer", bounds.handshakes_per_peer as u64),
            ("limits.failed-handshakes-per-minute", bounds.failed_handshakes_per_minute.into()),
            ("limits.associations-per-credential", bounds.associations_per_credential as u64),
            ("limits.first-flight-seconds", bounds.first_flight_seconds),
            ("limits.handshake-seconds", bounds.handshake_seconds),
            ("limits.idle-seconds", bounds.idle_seconds),
            ("limits.content-seconds", bounds.content_seconds),
            ("limits.content-bytes", bounds.content_bytes as u64),
            ("limits.upstream-seconds", bounds.upstream_seconds),
            ("limits.answer-seconds", bounds.answer_seconds),
            ("limits.request-seconds", bounds.request_seconds),
            ("limits.request-steps", bounds.request_steps),
            ("limits.cse-requests-per-credential", bounds.cse_requests_per_credential as u64),
            ("notifications.timeout-seconds", self.notifications.timeout_seconds),
        ] {
            if value == 0 || value > u64::from(u32::MAX) {
                fault(entry, &format!("must be from 1 to {}", u32::MAX));
            }
        }
        for (entry, bytes) in [
            ("limits.answer-bytes", bounds.answer_bytes),
            ("limits.answer-bytes-per-credential", bounds.answer_bytes_per_credential),
        ] {
            // A semaphore counts them.
            if !(response_memory::MAX_RESPONSE..=1 << 30).contains(&bytes) {
                let least = response_memory::MAX_RESPONSE;
                let what = format!("must be from {least}, the largest answer, to 1073741824");
                fault(entry, &what);
            }
        }
        for (entry, value) in [
            ("registrar.quota.resources", self.registrar.quota.resources),
            ("registrar.quota.bytes", self.registrar.quota.bytes),
        ] {
            if value == 0 || i64::try_from(value).is_err() {
                fault(entry, "must be at least 1");
            }
        }
        if !(1..=3600).contains(&self.policy.load_seconds) {
            fault("policy.load-seconds", "must be from 1 to 3600");
        }
        let (audit, decisions) = (&self.audit, &self.decisions);
        for (table, bytes, old_files) in [
            ("audit", audit.file_bytes, audit.old_files),
            ("decisions", decisions.file_bytes, decisions.old_files),
        ] {
            if !(64 << 10..=1 << 40).contains(&bytes) {
                fault(&format!("{table}.file-bytes"), "must be from 65536 to 1099511627776");
            }
            if !(1..=1000).contains(&old_files) {
                fault(&format!("{table}.old-files"), "must be from 1 to 1000");
            }
        }
        if let Some(filter) = &self.log.filter
            && let Err(e) = EnvFilter::try_new(filter)
        {
            fault("log.filter", &format!("{filter:?} is no filter: {e}"));
        }
        if !(decisions.sample > 0.0 && decisions.sample <= 1.0) {
            fault("decisions.sample", "must be above 0, and 1 at the most");
        }
        let of_refusals = audit.refusals_file();
        if decisions.record.is_some() && [&audit.file, &of_refusals].contains(&&decisions.record) {
            fault("decisions.record", "is a file of the audit trail");
        }
        if audit.file.is_some() && audit.file == of_refusals {
            fault("audit.refusals-file", "is the file of the other events");
        }
        if self.metrics.address.as_ref().is_some_and(|a| !a.is_loopback()) {
            let what = "must be of the loopback interface, such as 127.0.0.1:9464, for there is no \
                        authentication; let a proxy that has one pass it on";
            fault("metrics.address", what);
        }
    }

    /// The settings of the policy runtime.
    pub fn policy_settings(&self, observer: Option<Arc<dyn Observer>>) -> Settings {
        Settings {
            policies: self.policy.folder.clone(),
            modules: self.modules.folder.clone(),
            code_cache: Some(self.modules.code_cache.clone()),
            required: self.modules.required.clone(),
            signatures: self.modules.require_signature.as_ref().map(|keys| keys.required()),
            artifacts: (!self.artifacts.registry.is_empty()).then(|| {
                Arc::new(ArtifactFetcher::new(&self.artifacts)) as Arc<dyn ArtifactSource>
            }),
            cse: self.cse.cse_id.clone(),
            registrars: self.peer.iter().filter(|p| p.register).map(|p| p.cse_id.clone()).collect(),
            in_cse: match self.cse.kind {
                CseKind::In => Some(self.cse.cse_id.clone()),
                CseKind::Mn => {
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
            is_maf: self.role.is_maf(),
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
