//! Errors of changes to devices.

use std::io;
use std::path::{Path, PathBuf};

use saegis_policy::Faults;

/// Error of a change to devices.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The configuration or a policy file is invalid.
    #[error("{0}")]
    Faults(#[from] Faults),
    /// An argument is not usable.
    #[error("{0}")]
    Argument(String),
    /// A file cannot be read or written.
    #[error("{}: {error}", saegis_policy::Shown(file))]
    File {
        /// The file.
        file: PathBuf,
        /// Cause.
        error: io::Error,
    },
    /// The gateway rejected the changed policy, and the files were restored.
    #[error("{0}\nthe gateway rejected the change; nothing was changed")]
    Refused(String),
}

impl DeviceError {
    /// Returns the error of a file, for `map_err`.
    pub fn file(file: &Path) -> impl FnOnce(io::Error) -> Self + use<'_> {
        move |error| Self::File { file: file.into(), error }
    }
}
