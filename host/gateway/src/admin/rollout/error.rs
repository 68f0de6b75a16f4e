//! Errors of promotions and rollbacks.

use std::io;
use std::path::PathBuf;

use saegis_policy::Faults;

/// Error of a promotion or a rollback.
#[derive(Debug, thiserror::Error)]
pub enum RolloutError {
    /// The module does not exist.
    #[error("there is no module {name} in {}; the shadow modules are: {shadows}", saegis_policy::Shown(.folder))]
    Unknown {
        /// Name.
        name: String,
        /// Folder of the modules.
        folder: PathBuf,
        /// Names of the existing shadow modules.
        shadows: String,
    },
    /// The policy with the changed module is invalid.
    #[error("{0}")]
    Invalid(Faults),
    /// The module is already in force.
    #[error("{0} is already in force")]
    InForce(String),
    /// The module is the former version of another one.
    #[error("{0} is a former version; roll back the module that replaces it")]
    Former(String),
    /// The module was not promoted.
    #[error(
        "{0} has no former version: it was not promoted (its manifest has no mode = \"in-force\")"
    )]
    NotPromoted(String),
    /// The module is a shadow.
    #[error("{0} is a shadow module: there is nothing to roll back; promote it, or remove it")]
    IsShadow(String),
    /// The former version was removed.
    #[error("{name} cannot be rolled back: the former version, {former}.wasm, was removed")]
    FormerGone {
        /// Name of the module.
        name: String,
        /// Name of the former version.
        former: String,
    },
    /// The manifest is signed, and the signing key is not on this machine.
    #[error(
        "{}: is signed (modules.require-signature), so change it where the signing key is; nothing was \
         changed. There, write mode = \"{mode}\" into it and sign it: minisign -Sm {name}.toml. Then put \
         {name}.toml.minisig and {name}.toml here, and the gateway loads them", saegis_policy::Shown(.file)
    )]
    Signed {
        /// Path of the manifest.
        file: PathBuf,
        /// Name of the module.
        name: String,
        /// The new mode.
        mode: &'static str,
    },
    /// Another promotion or rollback is running.
    #[error("another promote or rollback is running in {}", saegis_policy::Shown(.0))]
    UnderWay(PathBuf),
    /// The manifest cannot be written.
    #[error("{}: cannot be written: {error}; nothing was changed", saegis_policy::Shown(.file))]
    NotWritten {
        /// Path of the manifest.
        file: PathBuf,
        /// Cause.
        error: io::Error,
    },
    /// The gateway did not respond, so its state is unknown.
    #[error(
        "cannot reach the running gateway at {}: {error}; the manifest was restored",
        saegis_policy::Shown(.socket)
    )]
    ReloadFailed {
        /// Path of the admin socket.
        socket: PathBuf,
        /// Cause.
        error: io::Error,
    },
    /// The running gateway rejected the change.
    #[error("{0}\nthe running gateway refused it; the manifest was restored")]
    Refused(String),
    /// The running gateway rejected the change, and the manifest could not be restored.
    #[error("{faults}\nthe running gateway refused it, and {} cannot be restored: {error}", saegis_policy::Shown(.file))]
    NotRestored {
        /// Faults that the gateway reported.
        faults: String,
        /// Path of the manifest.
        file: PathBuf,
        /// Cause.
        error: io::Error,
    },
}
