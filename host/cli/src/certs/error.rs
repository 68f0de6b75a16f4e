//! Errors of `saegis certs`.

use std::path::PathBuf;

use saegis_policy::Faults;

/// Error of `saegis certs`.
#[derive(Debug, thiserror::Error)]
pub enum CertsError {
    /// The configuration or policy of the gateway is invalid.
    #[error("{0}")]
    Config(#[from] Faults),
    /// A file cannot be read, or contains no certificate or key.
    #[error("{}: {why}", saegis_policy::Shown(file))]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Cause.
        why: String,
    },
    /// A file cannot be written.
    #[error("{}: {why}", saegis_policy::Shown(file))]
    Unwritten {
        /// The file.
        file: PathBuf,
        /// Cause and remedy.
        why: String,
    },
    /// The names cannot be used for a trial.
    #[error("certificates cannot have these names: {0}")]
    Names(String),
}

/// Exit code for certificates that a gateway rejects.
pub const REFUSED: u8 = 4;
