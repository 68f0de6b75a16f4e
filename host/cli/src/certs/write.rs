//! Files that are made once: what is there already is left as it is.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::error::CertsError;

/// A file to be made.
pub struct File {
    /// Where it goes, within the folder of all.
    pub path: PathBuf,
    /// What it is.
    pub what: String,
    /// What is in it.
    pub text: Zeroizing<String>,
    /// Whether nobody but its owner may read it.
    pub secret: bool,
}

/// Makes the files; none, where one of them is there already.
///
/// # Errors
/// Which file is there already, or can't be made.
pub fn all(folder: &Path, files: &[File]) -> Result<(), CertsError> {
    for file in files {
        let path = folder.join(&file.path);
        match fs::symlink_metadata(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Ok(_) => return Err(there(path)),
            Err(e) => return Err(unwritten(path, format!("can't be looked for: {e}"))),
        }
    }
    files.iter().try_for_each(|file| one(folder.join(&file.path), file))
}

fn one(path: PathBuf, file: &File) -> Result<(), CertsError> {
    if let Some(folder) = path.parent()
        && let Err(e) = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
    {
        return Err(unwritten(folder.into(), format!("the folder can't be made: {e}")));
    }
    // The mode is there from the first moment, not set when the key is in the file.
    let mode = if file.secret { 0o600 } else { 0o644 };
    let made = OpenOptions::new().write(true).create_new(true).mode(mode).open(&path);
    match made.and_then(|mut made| made.write_all(file.text.as_bytes())) {
        Ok(()) => Ok(()),
        // Somebody was faster.
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Err(there(path)),
        Err(e) => Err(unwritten(path, format!("can't be written: {e}"))),
    }
}

fn there(path: PathBuf) -> CertsError {
    let why = "is there already, and nothing is overwritten; name another --folder, or move what is \
               there away";
    unwritten(path, why.into())
}

fn unwritten(file: PathBuf, why: String) -> CertsError {
    CertsError::Unwritten { file, why }
}
