//! `saegis certs`: certificates for trials, and what is in a file of certificates.

mod init;
mod inspect;
mod verify;
mod write;

use std::path::PathBuf;

use saegis_policy::Faults;

/// Arguments of `saegis certs`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Make authorities and certificates for a trial of the worked example.
    Init(init::Args),
    /// Say what is in a file of certificates or keys, and what a gateway makes of it.
    Inspect(inspect::Args),
}

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

/// What a gateway refuses ends with this.
const REFUSED: u8 = 4;

/// Runs one verb, and returns the process's exit code.
///
/// # Errors
/// Why it came to nothing.
pub async fn run(args: Args, as_json: bool) -> Result<u8, CertsError> {
    match args.verb {
        Verb::Init(args) => init::run(&args, as_json).map(|()| 0),
        Verb::Inspect(args) => inspect::run(&args, as_json).await,
    }
}
