//! Artifacts of registries, as the gateway fetches and stores them.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use crate::data::fault::Fault;
use crate::data::files::{self, Digest, Source};

/// A source of artifacts, which fetches and stores them.
pub trait ArtifactSource: Send + Sync {
    /// Sees to it that an artifact is kept, and comes to an end in a bounded time, whether it is or
    /// not. Nothing is fetched where it is kept already.
    fn fetch(self: Arc<Self>, source: String) -> Pin<Box<dyn Future<Output = ()> + Send>>;

    /// The artifact, if it is kept whole.
    ///
    /// # Errors
    /// Why it is not, in words.
    fn stored(&self, source: &str) -> Result<StoredArtifact, String>;

    /// Is told what is in use. What has not been for long is not kept any more.
    fn remove_unused(&self, in_use: &[String]);
}

/// An artifact that is kept.
#[derive(Debug, Clone)]
pub struct StoredArtifact {
    /// The media type of its configuration.
    pub kind: String,
    /// Its files.
    pub files: Vec<StoredFile>,
}

/// A file of an artifact that is kept.
#[derive(Debug, Clone)]
pub struct StoredFile {
    /// Its name, if it has one.
    pub title: Option<String>,
    /// Its media type.
    pub media_type: String,
    /// Its path.
    pub path: PathBuf,
    /// Its SHA-256, against which it is held when it is read.
    pub digest: Digest,
}

impl StoredFile {
    /// Reads it, as the file that it is called.
    pub(crate) fn read(&self, called: &Path, limit: u64) -> Result<Source, Fault> {
        let source = files::read(&self.path, limit);
        let source = source.map_err(|fault| Fault::of(called, fault.what))?;
        if source.digest != self.digest {
            return Err(Fault::of(called, "was altered where it is kept"));
        }
        Ok(source)
    }
}
