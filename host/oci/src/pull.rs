//! Fetching an artifact: its manifest, and then each file that is not kept yet.

use crate::reference::{Digest, Reference};
use crate::registry::{Pass, Registry};
use crate::store::{Artifact, MAX_MANIFEST, Store, StoreError, digest_of};

/// The forms of manifest that are taken: of one artifact, not of a list of them.
const MANIFESTS: &str = "application/vnd.oci.image.manifest.v1+json, \
                         application/vnd.docker.distribution.manifest.v2+json";

/// Why an artifact was not fetched. Nothing of it is in use then.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The registry can't be reached, or breaks off.
    #[error("{0}")]
    Failed(String),
    /// It takes too long.
    #[error("it took longer than {0} s (timeout-seconds)")]
    Late(u64),
    /// It wants to know who asks.
    #[error("it asks for a password, and none is configured (credentials-file)")]
    NoCredentials,
    /// It does not take our word.
    #[error("it does not let us in with what is in credentials-file")]
    BadCredentials,
    /// It wants to know who asks, in a way that we don't know.
    #[error("it asks for a password in a way that is not known here")]
    Challenge,
    /// It has no such thing.
    #[error("it has no such artifact")]
    NotThere,
    /// It sends us elsewhere too often, or where there is no HTTPS.
    #[error("it sends us elsewhere, too often or without HTTPS")]
    Redirect,
    /// It answers with this status.
    #[error("it answers with the status {0}")]
    Status(u16),
    /// It sends too much.
    #[error("it has more than {0} bytes for us")]
    TooLarge(u64),
    /// A file is larger than files may be.
    #[error("{what} has {size} bytes, and may have {limit}")]
    LargeFile {
        /// The file.
        what: String,
        /// Its size.
        size: u64,
        /// What it may have.
        limit: u64,
    },
    /// It sends something else than what was asked for.
    #[error("it sent something else: what was asked for is {asked}, and what came is {came}")]
    Other {
        /// The digest that was asked for.
        asked: Digest,
        /// The digest of what came.
        came: Digest,
    },
    /// What is pinned is no artifact, or the store fails.
    #[error("{0}")]
    Store(#[from] StoreError),
}

impl Registry {
    /// Makes sure that an artifact is kept: fetches what is missing of it.
    ///
    /// # Errors
    /// Why it could not be fetched.
    pub async fn pull(&self, reference: &Reference, store: &Store) -> Result<(), PullError> {
        let time = self.bounds.time;
        let pulled = tokio::time::timeout(time, self.pull_all(reference, store)).await;
        pulled.unwrap_or(Err(PullError::Late(time.as_secs())))
    }

    async fn pull_all(&self, reference: &Reference, store: &Store) -> Result<(), PullError> {
        let mut pass: Pass = None;
        let repository = &reference.repository;
        let what = format!("manifests/{}", reference.digest);
        let manifest = self.fetch(repository, &what, MANIFESTS, MAX_MANIFEST, &mut pass).await?;
        expect(reference.digest, &manifest)?;
        let artifact = Artifact::parse(&manifest)?;
        for file in &artifact.files {
            let limit = self.bounds.file;
            if file.size > limit {
                let what = file.title.clone().unwrap_or_else(|| file.digest.to_string());
                return Err(PullError::LargeFile { what, size: file.size, limit });
            }
        }
        for file in &artifact.files {
            if !store.has(file)? {
                let what = format!("blobs/{}", file.digest);
                let bytes = self.fetch(repository, &what, "*/*", file.size, &mut pass).await?;
                expect(file.digest, &bytes)?;
                keep(store, bytes).await?;
            }
        }
        // Last, so that where the manifest is, there is the rest.
        keep(store, manifest).await
    }
}

async fn keep(store: &Store, bytes: bytes::Bytes) -> Result<(), PullError> {
    let store = store.clone();
    let kept = tokio::task::spawn_blocking(move || store.keep(&bytes)).await;
    Ok(kept.map_err(|e| PullError::Failed(e.to_string()))??)
}

fn expect(asked: Digest, bytes: &[u8]) -> Result<(), PullError> {
    let came = digest_of(bytes);
    if came == asked { Ok(()) } else { Err(PullError::Other { asked, came }) }
}
