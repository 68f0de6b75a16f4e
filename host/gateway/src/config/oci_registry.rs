//! Artifacts from OCI registries for the policy: fetched as configured, and cached.

use std::collections::HashMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use saegis_oci::{Bounds, Credentials, Reference, Registry, Store};
use saegis_policy::{Limits, StoredArtifact, StoredFile};
use serde::Deserialize;

use super::folders::Folders;

/// Time for which a failed registry is not asked again. A generation that needs it is tried every
/// few seconds.
const REGISTRY_BACKOFF: Duration = Duration::from_secs(10);
/// Maximum number of stored failures; there are no more artifacts than files name.
const MAX_FAILURES: usize = 256;
/// Lifetime of an unused artifact, so that returning to it needs no registry.
const UNUSED_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);

/// OCI registries for modules and policy files.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Artifacts {
    /// Folder of fetched artifacts.
    pub store: PathBuf,
    /// Registries that the gateway may contact.
    pub registry: Vec<At>,
}

impl Default for Artifacts {
    fn default() -> Self {
        Self { store: "state/artifacts".into(), registry: Vec::new() }
    }
}

/// An OCI registry.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct At {
    /// `host` or `host:port`, as in references.
    pub host: String,
    /// PEM file of the authorities of the registry. Without it, the authorities of the system are
    /// used.
    pub ca_file: Option<PathBuf>,
    /// File with the login for this registry, as `docker login` or `skopeo login --authfile` writes
    /// it. Only its owner may be able to read it.
    pub credentials_file: Option<PathBuf>,
    /// Timeout for fetching one artifact.
    #[serde(default = "timeout")]
    pub timeout_seconds: u64,
}

fn timeout() -> u64 {
    60
}

impl Artifacts {
    /// Resolves paths relative to the folder of the configuration.
    pub fn place(&mut self, folders: &Folders) {
        let of_registries = self
            .registry
            .iter_mut()
            .flat_map(|at| at.ca_file.iter_mut().chain(&mut at.credentials_file));
        for path in std::iter::once(&mut self.store).chain(of_registries) {
            folders.place(path);
        }
    }

    /// Returns the folder for artifacts.
    pub fn store(&self) -> &Path {
        &self.store
    }

    /// Checks what types cannot express.
    pub fn check(&self, document: &mut saegis_policy::Document<'_>) {
        for (nth, at) in self.registry.iter().enumerate() {
            let mut fault = |what: &str| {
                document.add_fault("artifacts.registry", &format!("{:?}: {what}", at.host));
            };
            if at.host.is_empty() || at.host.contains(['/', '@', ' ']) {
                fault("is not of the form host or host:port");
            }
            if self.registry.iter().take(nth).any(|other| other.host == at.host) {
                fault("is listed twice");
            }
            if at.timeout_seconds == 0 || at.timeout_seconds > 3600 {
                fault("timeout-seconds must be from 1 to 3600");
            }
        }
    }
}

/// Fetches and caches artifacts.
pub struct ArtifactFetcher {
    config: Artifacts,
    store: Store,
    /// Failed artifacts, with the time and the cause.
    failed: Mutex<HashMap<String, (Instant, String)>>,
}

impl ArtifactFetcher {
    /// Creates a fetcher that has not contacted a registry.
    pub fn new(config: &Artifacts) -> Self {
        let store = Store::new(config.store.clone());
        Self { config: config.clone(), store, failed: Mutex::default() }
    }

    fn failure(&self, source: &str) -> Option<(Instant, String)> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).get(source).cloned()
    }

    async fn pull(&self, source: &str) -> Result<(), String> {
        let reference: Reference = source.parse().map_err(|e| format!("{source:?} {e}"))?;
        let host = &reference.registry;
        let at = self.config.registry.iter().find(|at| at.host == *host).ok_or_else(|| {
            format!("the registry {host} is not allowed; add it as an [[artifacts.registry]]")
        })?;
        let store = self.store.clone();
        let of = reference.clone();
        // A cached artifact is read completely to verify its digest.
        let found = tokio::task::spawn_blocking(move || store.find(&of)).await;
        match found {
            Ok(Ok(Some(_))) => return Ok(()),
            Ok(Ok(None)) => {}
            Ok(Err(e)) => return Err(format!("{source} {e}")),
            Err(e) => return Err(e.to_string()),
        }
        let bounds = Bounds {
            time: Duration::from_secs(at.timeout_seconds),
            file: Limits::default().module_size,
        };
        let credentials = at.credentials_file.as_ref().map(|file| {
            Credentials::read(file, host)
                .map_err(|e| format!("{}: {e}", saegis_policy::Shown(file)))
        });
        let registry =
            Registry::new(host.clone(), credentials.transpose()?, at.ca_file.as_deref(), bounds);
        let registry = registry.map_err(|e| e.to_string())?;
        tracing::info!(event = "artifact.fetching", source, "fetching {source}");
        let pulled = registry.pull(&reference, &self.store).await;
        pulled.map_err(|e| format!("cannot fetch {source}, and it is not cached: {e}"))?;
        tracing::info!(event = "artifact.fetched", source, "fetched {source}");
        Ok(())
    }
}

impl saegis_policy::ArtifactSource for ArtifactFetcher {
    fn fetch(self: Arc<Self>, source: String) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            if self.failure(&source).is_some_and(|(at, _)| at.elapsed() < REGISTRY_BACKOFF) {
                return;
            }
            let fetched = self.pull(&source).await;
            let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
            match fetched {
                Ok(()) => drop(failed.remove(&source)),
                Err(why) => {
                    if failed.len() >= MAX_FAILURES {
                        failed.clear();
                    }
                    failed.insert(source, (Instant::now(), why));
                }
            }
        })
    }

    fn stored(&self, source: &str) -> Result<StoredArtifact, String> {
        let reference: Reference = source.parse().map_err(|e| format!("{source:?} {e}"))?;
        let artifact = self.store.find(&reference).map_err(|e| format!("{source} {e}"))?;
        let artifact = artifact.ok_or_else(|| match self.failure(source) {
            Some((_, why)) => why,
            None => format!("{source} has not been fetched yet"),
        })?;
        let files = artifact.files.into_iter().map(|file| StoredFile {
            path: self.store.path(&file.digest),
            title: file.title,
            media_type: file.media_type,
            digest: file.digest.0,
        });
        Ok(StoredArtifact { kind: artifact.kind, files: files.collect() })
    }

    fn remove_unused(&self, in_use: &[String]) {
        // An invalid reference does not name a cached artifact.
        let in_use: Vec<Reference> = in_use.iter().filter_map(|s| s.parse().ok()).collect();
        let Some(before) = SystemTime::now().checked_sub(UNUSED_LIFETIME) else { return };
        match self.store.remove_unused(&in_use, before) {
            Ok(0) => {}
            Ok(files) => tracing::info!(
                event = "artifact.deleted",
                files,
                "deleted {files} files of artifacts that were unused for 30 days"
            ),
            Err(e) => tracing::warn!(
                event = "artifact.delete-failed",
                "cannot delete unused artifacts: {e}"
            ),
        }
    }
}
