//! Creates files and never overwrites existing ones.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::error::CertsError;

/// A file to be created.
pub struct File {
    /// Path in the common folder.
    pub path: PathBuf,
    /// Description of the content.
    pub what: String,
    /// Content.
    pub text: Zeroizing<String>,
    /// Whether only the owner may read it.
    pub secret: bool,
}

/// Creates the files; creates none if one of them already exists.
///
/// # Errors
/// Fails if a file already exists or cannot be created.
pub fn all(folder: &Path, files: &[File]) -> Result<(), CertsError> {
    for file in files {
        let path = folder.join(&file.path);
        match fs::symlink_metadata(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Ok(_) => return Err(there(path)),
            Err(e) => return Err(unwritten(path, format!("cannot be checked: {e}"))),
        }
    }
    files.iter().try_for_each(|file| one(folder.join(&file.path), file))
}

fn one(path: PathBuf, file: &File) -> Result<(), CertsError> {
    if let Some(folder) = path.parent()
        && let Err(e) = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
    {
        return Err(unwritten(folder.into(), format!("the folder cannot be created: {e}")));
    }
    // The file is created with its mode, so that the key is never readable to others.
    let mode = if file.secret { 0o600 } else { 0o644 };
    let made = OpenOptions::new().write(true).create_new(true).mode(mode).open(&path);
    match made.and_then(|mut made| made.write_all(file.text.as_bytes())) {
        Ok(()) => Ok(()),
        // Another process created it in the meantime.
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Err(there(path)),
        Err(e) => Err(unwritten(path, format!("cannot be written: {e}"))),
    }
}

fn there(path: PathBuf) -> CertsError {
    let why = "already exists and is not overwritten; choose another --folder, or move the \
               existing file";
    unwritten(path, why.into())
}

fn unwritten(file: PathBuf, why: String) -> CertsError {
    CertsError::Unwritten { file, why }
}
