//! Pulls an artifact: its manifest, then each file that is not stored yet.

use crate::error::PullError;
use crate::reference::{Digest, Reference};
use crate::registry::{Authorization, Registry};
use crate::store::{Artifact, MAX_MANIFEST, Store, digest_of};

/// Accepted media types of manifests: of a single artifact, not of an index.
const MANIFEST_TYPES: &str = "application/vnd.oci.image.manifest.v1+json, \
                         application/vnd.docker.distribution.manifest.v2+json";

impl Registry {
    /// Fetches the missing files of an artifact into the store.
    ///
    /// # Errors
    /// Returns an error if the artifact could not be fetched completely.
    pub async fn pull(&self, reference: &Reference, store: &Store) -> Result<(), PullError> {
        let time = self.bounds.time;
        let pulled = tokio::time::timeout(time, self.pull_all(reference, store)).await;
        pulled.unwrap_or(Err(PullError::Timeout(time.as_secs())))
    }

    async fn pull_all(&self, reference: &Reference, store: &Store) -> Result<(), PullError> {
        let mut authorization: Authorization = None;
        let repository = &reference.repository;
        let what = format!("manifests/{}", reference.digest);
        let manifest =
            self.fetch(repository, &what, MANIFEST_TYPES, MAX_MANIFEST, &mut authorization).await?;
        verify(reference.digest, &manifest)?;
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
                let bytes =
                    self.fetch(repository, &what, "*/*", file.size, &mut authorization).await?;
                verify(file.digest, &bytes)?;
                put(store, bytes).await?;
            }
        }
        // The manifest comes last, so a stored manifest implies stored files.
        put(store, manifest).await
    }
}

async fn put(store: &Store, bytes: bytes::Bytes) -> Result<(), PullError> {
    let store = store.clone();
    let stored = tokio::task::spawn_blocking(move || store.put(&bytes)).await;
    Ok(stored.map_err(|e| PullError::Failed(e.to_string()))??)
}

fn verify(asked: Digest, bytes: &[u8]) -> Result<(), PullError> {
    let came = digest_of(bytes);
    if came == asked { Ok(()) } else { Err(PullError::DigestMismatch { asked, came }) }
}
