//! Errors of `saegis module`.

use std::path::PathBuf;

use saegis_gateway::admin::rollout::RolloutError;
use saegis_policy::Faults;

/// Error of `saegis module`.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// Files are invalid.
    #[error("{0}")]
    Faults(#[from] Faults),
    /// The name is not valid for a module.
    #[error("{0}")]
    Name(String),
    /// A promotion or a rollback failed.
    #[error("{0}")]
    Rollout(#[from] RolloutError),
    /// A file cannot be read, or is not a module.
    #[error("{}: {why}", saegis_policy::Shown(file))]
    Unusable {
        /// The file.
        file: PathBuf,
        /// Cause and remedy.
        why: String,
    },
}

/// Fault of a command whose tools were left out of this build.
#[cfg(not(feature = "module-tools"))]
pub const WITHOUT_TOOLS: &str = "this build has no tools for authors of modules; build saegis with the \
                                 feature module-tools, which is on by default";

/// Exit code for a module that no gateway loads.
pub const REFUSED: u8 = 4;

/// Maximum size of a module, in bytes: the limit of a gateway.
pub const MAX_MODULE: u64 = 64 << 20;
