//! Why a command about certificates came to nothing.

use std::path::PathBuf;

use saegis_policy::Faults;

/// Why a command came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum CertsError {
    /// The gateway's configuration or policy is wrong.
    #[error("{0}")]
    Config(#[from] Faults),
    /// A file can't be read, or holds nothing of the kind.
    #[error("{}: {why}", saegis_policy::Shown(file))]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        why: String,
    },
    /// A file can't be written.
    #[error("{}: {why}", saegis_policy::Shown(file))]
    Unwritten {
        /// The file.
        file: PathBuf,
        /// Why, and what to do.
        why: String,
    },
    /// The names can't be those of a trial.
    #[error("there are no certificates with these names: {0}")]
    Names(String),
}

/// Exit code for certificates that a gateway refuses.
pub const REFUSED: u8 = 4;
