//! Artifacts of OCI registries, which the gateway fetches and stores.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use crate::data::fault::Fault;
use crate::data::files::{self, Digest, Source};

/// Source of artifacts, which fetches and stores them.
pub trait ArtifactSource: Send + Sync {
    /// Fetches an artifact if it is not stored yet. Returns within a time limit, even after a
    /// failure.
    fn fetch(self: Arc<Self>, source: String) -> Pin<Box<dyn Future<Output = ()> + Send>>;

    /// Returns the artifact, if it is stored completely.
    ///
    /// # Errors
    /// Returns the reason if it is not.
    fn stored(&self, source: &str) -> Result<StoredArtifact, String>;

    /// Removes artifacts that have been unused for long. `in_use` are those in use.
    fn remove_unused(&self, in_use: &[String]);
}

/// A stored artifact.
#[derive(Debug, Clone)]
pub struct StoredArtifact {
    /// The media type of its configuration.
    pub kind: String,
    /// Its files.
    pub files: Vec<StoredFile>,
}

/// A file of a stored artifact.
#[derive(Debug, Clone)]
pub struct StoredFile {
    /// Its name, if it has one.
    pub title: Option<String>,
    /// Its media type.
    pub media_type: String,
    /// Its path.
    pub path: PathBuf,
    /// Its SHA-256, which is verified when it is read.
    pub digest: Digest,
}

impl StoredFile {
    /// Reads it. Faults name it as `called`.
    pub(crate) fn read(&self, called: &Path, limit: u64) -> Result<Source, Fault> {
        let source = files::read(&self.path, limit);
        let source = source.map_err(|fault| Fault::of(called, fault.what))?;
        if source.digest != self.digest {
            return Err(Fault::of(called, "was altered in the artifact store"));
        }
        Ok(source)
    }
}
