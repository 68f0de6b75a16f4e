//! The files of artifacts on disk by digest: `sha256/…`, like the `blobs` of an OCI image layout.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use oci_spec::image::ImageManifest;
use sha2::{Digest as _, Sha256};

use crate::reference::{Digest, Reference};

/// Maximum size of an artifact's manifest, in bytes.
pub(crate) const MAX_MANIFEST: u64 = 1 << 20;
/// Maximum number of files of an artifact.
const MAX_FILES: usize = 64;
/// Prefix of files that are being written, or were when the power failed.
const TEMPORARY_PREFIX: &str = ".new-";
/// The annotation with a file's name, which `oras` and other tools set.
const TITLE: &str = "org.opencontainers.image.title";

/// A folder of artifacts.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
}

/// An artifact, according to its manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// Media type of its configuration, which identifies the kind of artifact.
    pub kind: String,
    /// Files of the artifact.
    pub files: Vec<File>,
}

/// A file of an artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Name, if any.
    pub title: Option<String>,
    /// Media type.
    pub media_type: String,
    /// Size, in bytes.
    pub size: u64,
    /// Digest.
    pub digest: Digest,
}

/// The error of a store that cannot be used, or of a file in it that is not a manifest.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file or folder cannot be read or written.
    #[error("{} cannot be read or written: {error}", .path.display())]
    Io {
        /// File.
        path: PathBuf,
        /// Cause.
        error: std::io::Error,
    },
    /// The manifest is invalid.
    #[error("is not a manifest of an OCI artifact: {0}")]
    Manifest(String),
}

impl Artifact {
    /// Parses a manifest whose digest was verified.
    pub(crate) fn parse(manifest: &[u8]) -> Result<Self, StoreError> {
        let bad = |what: String| StoreError::Manifest(what);
        let manifest: ImageManifest =
            serde_json::from_slice(manifest).map_err(|e| bad(e.to_string()))?;
        if manifest.layers().len() > MAX_FILES {
            return Err(bad(format!("it has more than {MAX_FILES} files")));
        }
        let file = |layer: &oci_spec::image::Descriptor| {
            let titles = layer.annotations().as_ref();
            Ok(File {
                title: titles.and_then(|all| all.get(TITLE)).cloned(),
                media_type: layer.media_type().to_string(),
                size: layer.size(),
                digest: layer.digest().to_string().parse().map_err(|_| {
                    bad(format!("the digest {} of a file is not of SHA-256", layer.digest()))
                })?,
            })
        };
        let files = manifest.layers().iter().map(file).collect::<Result<_, _>>()?;
        Ok(Self { kind: manifest.config().media_type().to_string(), files })
    }
}

impl Store {
    /// Returns the store in a folder, which is created with the first artifact.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Returns the path of a file, whether it is stored or not. The reader verifies its digest.
    #[must_use]
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.folder.join("sha256").join(hex::encode(digest.0))
    }

    /// Returns an artifact, if all its files are stored and unaltered.
    ///
    /// # Errors
    /// Returns an error if the folder cannot be read, or the pinned content is not an artifact.
    pub fn find(&self, reference: &Reference) -> Result<Option<Artifact>, StoreError> {
        let Some(manifest) = self.read(&reference.digest, MAX_MANIFEST)? else { return Ok(None) };
        let artifact = Artifact::parse(&manifest)?;
        for file in &artifact.files {
            if !self.has(file)? {
                return Ok(None);
            }
        }
        Ok(Some(artifact))
    }

    /// Returns whether a file is stored and has its digest and size.
    pub(crate) fn has(&self, file: &File) -> Result<bool, StoreError> {
        Ok(self.read(&file.digest, file.size)?.is_some_and(|b| b.len() as u64 == file.size))
    }

    /// Reads the content of a digest, if it is stored and has at most `limit` bytes.
    fn read(&self, digest: &Digest, limit: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.path(digest);
        let failed = |error| StoreError::Io { path: path.clone(), error };
        let open = match std::fs::File::open(&path) {
            Ok(open) => open,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(failed(e)),
        };
        if !open.metadata().map_err(failed)?.is_file() {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        open.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
        Ok(Some(bytes).filter(|bytes| digest_of(bytes) == *digest))
    }

    /// Stores content under its digest, atomically.
    pub(crate) fn put(&self, bytes: &[u8]) -> Result<(), StoreError> {
        let path = self.path(&digest_of(bytes));
        let folder = path.parent().unwrap_or(Path::new("."));
        let write = || {
            std::fs::create_dir_all(folder)?;
            let mut temporary =
                tempfile::Builder::new().prefix(TEMPORARY_PREFIX).tempfile_in(folder)?;
            temporary.write_all(bytes)?;
            temporary.as_file().sync_all()?;
            temporary.persist(&path).map_err(|e| e.error)?;
            Ok(())
        };
        write().map_err(|error| StoreError::Io { path: path.clone(), error })
    }
}

impl Store {
    /// Deletes files that belong to no artifact in use, and have not since `before`. Files in use
    /// get the current time as their modification time. Returns the number of deleted files.
    ///
    /// # Errors
    /// Returns an error if the folder cannot be read or written.
    pub fn remove_unused(
        &self,
        in_use: &[Reference],
        before: SystemTime,
    ) -> Result<usize, StoreError> {
        let mut used = BTreeSet::new();
        for Reference { digest, .. } in in_use {
            used.insert(*digest);
            // Files of an artifact without a manifest may be arriving now, but they are newer than
            // `before`.
            if let Some(manifest) = self.read(digest, MAX_MANIFEST)? {
                let files = Artifact::parse(&manifest).map(|artifact| artifact.files);
                used.extend(files.unwrap_or_default().iter().map(|file| file.digest));
            }
        }
        let folder = self.folder.join("sha256");
        let failed = |path: &Path| {
            let path = path.to_path_buf();
            move |error| StoreError::Io { path, error }
        };
        let entries = match std::fs::read_dir(&folder) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(0),
            entries => entries.map_err(failed(&folder))?,
        };
        let mut deleted = 0;
        for entry in entries {
            let path = entry.map_err(failed(&folder))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let digest: Option<Digest> = format!("sha256:{name}").parse().ok();
            if digest.is_some_and(|digest| used.contains(&digest)) {
                let file = std::fs::File::open(&path).map_err(failed(&path))?;
                file.set_modified(SystemTime::now()).map_err(failed(&path))?;
            } else if digest.is_some() || name.starts_with(TEMPORARY_PREFIX) {
                let meta = match path.symlink_metadata() {
                    // The file was renamed after its write.
                    Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                    meta => meta.map_err(failed(&path))?,
                };
                if meta.is_file() && meta.modified().map_err(failed(&path))? < before {
                    std::fs::remove_file(&path).map_err(failed(&path))?;
                    deleted += 1;
                }
            }
        }
        Ok(deleted)
    }
}

pub(crate) fn digest_of(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}
