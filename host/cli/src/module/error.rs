//! Why a command about modules came to nothing.

use std::io;
use std::path::PathBuf;

use saegis_policy::Faults;

/// Why a command came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// Files are not as they should be.
    #[error("{0}")]
    Faults(#[from] Faults),
    /// There can be no module of that name.
    #[error("{0}")]
    Name(String),
    /// Nothing was promoted or brought back.
    #[error("{0}")]
    Rollout(#[from] RolloutError),
    /// A file can't be read, or is no module.
    #[error("{}: {why}", saegis_policy::Shown(file))]
    Unusable {
        /// The file.
        file: PathBuf,
        /// Why, and what to do.
        why: String,
    },
}

/// Exit code for a module that no gateway loads.
pub const REFUSED: u8 = 4;

/// Largest module that is read, in bytes: what a gateway takes.
pub const MAX_MODULE: u64 = 64 << 20;

/// Why nothing was promoted or brought back.
#[derive(Debug, thiserror::Error)]
pub enum RolloutError {
    /// There is no such module.
    #[error("there is no module {name} in {}; the shadow modules are: {shadows}", saegis_policy::Shown(.folder))]
    Unknown {
        /// The name.
        name: String,
        /// Where modules are.
        folder: PathBuf,
        /// Those that there are.
        shadows: String,
    },
    /// Something is wrong with it.
    #[error("{0}")]
    NotGood(Faults),
    /// It is in force.
    #[error("{0} is in force already")]
    InForce(String),
    /// Another has its place.
    #[error("{0} is a former version; roll the module back that has taken its place")]
    Former(String),
    /// It was not promoted.
    #[error(
        "{0} has no former version: it was not promoted (its manifest has no mode = \"in-force\")"
    )]
    NotPromoted(String),
    /// It is a shadow.
    #[error("{0} is a shadow module: there is nothing to roll back; promote it, or take it away")]
    IsShadow(String),
    /// The former version has gone.
    #[error(
        "{name} can't be rolled back: the former version, {former}.wasm, is not there any more"
    )]
    FormerGone {
        /// The module.
        name: String,
        /// What it replaced.
        former: String,
    },
    /// Its manifest is signed, and who could sign it anew is not here.
    #[error(
        "{}: is signed (modules.require-signature), so it is changed where the key is; nothing was \
         changed. There, write mode = \"{mode}\" into it and sign it: minisign -Sm {name}.toml. Then put \
         {name}.toml.minisig and {name}.toml here, and the gateway takes them up", saegis_policy::Shown(.file)
    )]
    Signed {
        /// The manifest.
        file: PathBuf,
        /// The module.
        name: String,
        /// What it is to say.
        mode: &'static str,
    },
    /// Somebody else is at it.
    #[error("another promote or rollback is under way in {}", saegis_policy::Shown(.0))]
    UnderWay(PathBuf),
    /// The manifest can't be written.
    #[error("{}: can't be written: {error}; nothing was changed", saegis_policy::Shown(.file))]
    NotWritten {
        /// The manifest.
        file: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// It is not known whether a gateway runs and takes it.
    #[error(
        "the running gateway could not be told, at {}: {error}; the manifest is as it was",
        saegis_policy::Shown(.socket)
    )]
    NotTold {
        /// Where it is told.
        socket: PathBuf,
        /// Why it was not.
        error: io::Error,
    },
    /// The running gateway did not take it.
    #[error("{0}\nthe running gateway refused it; all is as it was")]
    Refused(String),
    /// The running gateway did not take it, and the manifest could not be put back.
    #[error("{faults}\nthe running gateway refused it, and {} can't be put back: {error}", saegis_policy::Shown(.file))]
    NotPutBack {
        /// What the gateway said.
        faults: String,
        /// The manifest.
        file: PathBuf,
        /// Why not.
        error: io::Error,
    },
}
