//! Errors of `saegis token`.

use std::io;
use std::path::{Path, PathBuf};

use saegis_policy::Faults;

/// Error of `saegis token`.
#[derive(Debug, thiserror::Error)]
pub enum TokenCommandError {
    /// The configuration or the policy file is invalid.
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
    /// The token is not valid.
    #[error("the token {0}")]
    Token(String),
    /// The gateway rejected the changed policy, and the file was restored.
    #[error("{0}\nthe gateway rejected the change; nothing was changed")]
    Refused(String),
}

impl TokenCommandError {
    /// Returns the exit code: 4 if the token is not valid or the gateway rejected the change, 2 for
    /// faults of the input.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Token(_) | Self::Refused(_) => 4,
            Self::Faults(_) | Self::Argument(_) | Self::File { .. } => crate::output::BAD_INPUT,
        }
    }

    /// Returns the error of a file, for `map_err`.
    pub fn file(file: &Path) -> impl FnOnce(io::Error) -> Self + use<'_> {
        move |error| Self::File { file: file.into(), error }
    }
}
