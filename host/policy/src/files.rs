//! Reading policy files: bounded, once, and wiped afterwards.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::fault::Fault;

/// SHA-256 of a file.
pub(crate) type Digest = [u8; 32];

/// A file's bytes, which may hold keys.
pub(crate) struct Source {
    pub bytes: Zeroizing<Vec<u8>>,
    pub digest: Digest,
    /// Whether every user of the machine may read it.
    pub exposed: bool,
}

/// Makes sure that no link leads out of the folder: what is put into it by copying is under the
/// rights of the folder, and what a link leads to is not. A link within the folder will do, for
/// that is how Kubernetes puts files in place.
pub(crate) fn stays_in(folder: &Path, path: &Path) -> Result<(), Fault> {
    let real = |path: &Path| match path.canonicalize() {
        Ok(real) => Ok(Some(real)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Fault::of(path, format!("can't be opened: {e}"))),
    };
    match (real(folder)?, real(path)?) {
        (Some(folder), Some(file)) if !file.starts_with(&folder) => {
            let what = "is a link to a file outside of the folder; copy that file into the folder";
            Err(Fault::of(path, what))
        }
        // Where there is nothing, whoever reads it says so.
        _ => Ok(()),
    }
}

/// Reads a file of at most `limit` bytes.
///
/// # Errors
/// Why it can't be read.
pub fn read_file(path: &Path, limit: u64) -> Result<Zeroizing<Vec<u8>>, Fault> {
    read(path, limit).map(|source| source.bytes)
}

/// Reads a text of at most `limit` bytes.
pub(crate) fn read_text(path: &Path, limit: u64) -> Result<String, Fault> {
    let text = String::from_utf8(read(path, limit)?.bytes.to_vec());
    text.map_err(|_| Fault::of(path, "is not UTF-8"))
}

/// Reads a file with a private key, which not every user of the machine may be able to read.
///
/// # Errors
/// Why it can't be read, or that it is exposed.
pub fn read_private_key(path: &Path, limit: u64) -> Result<Zeroizing<Vec<u8>>, Fault> {
    read(path, limit)?.private().map(|source| source.bytes).map_err(|what| Fault::of(path, what))
}

impl Source {
    /// The same, if it may hold a private key.
    pub fn private(self) -> Result<Self, &'static str> {
        if self.exposed {
            return Err("is a private key that every user of the machine may read; chmod 600");
        }
        Ok(self)
    }
}

/// Reads a file of at most `limit` bytes.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Source, Fault> {
    let fault = |what: String| Fault::of(path, what);
    // Asked first: opening a pipe would wait for somebody to write into it.
    match std::fs::metadata(path) {
        Ok(meta) if !meta.is_file() => return Err(fault("is not a file".into())),
        Ok(_) => {}
        Err(e) => return Err(fault(format!("can't be opened: {e}"))),
    }
    let file = File::open(path).map_err(|e| fault(format!("can't be opened: {e}")))?;
    let meta = file.metadata().map_err(|e| fault(format!("can't be read: {e}")))?;
    let too_large = || fault(format!("is larger than {limit} bytes"));
    if meta.len() > limit {
        return Err(too_large());
    }
    // One allocation, so that growing leaves no copy of a key behind.
    let capacity = usize::try_from(meta.len()).map_err(|_| too_large())?.saturating_add(1);
    let mut bytes = Zeroizing::new(Vec::with_capacity(capacity));
    let read = file.take(capacity as u64).read_to_end(&mut bytes);
    read.map_err(|e| fault(format!("can't be read: {e}")))?;
    if bytes.len() as u64 > meta.len() {
        return Err(fault("grew while it was read; it will be read again".into()));
    }
    let digest = Sha256::digest(&*bytes).into();
    let exposed = meta.permissions().mode() & 0o004 != 0;
    Ok(Source { bytes, digest, exposed })
}
