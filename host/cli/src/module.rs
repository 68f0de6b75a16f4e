//! `saegis module`: for people who write policy modules.

mod inspect;
mod manifest;
mod new;
mod rollout;
mod test;
mod trial;

use std::path::PathBuf;

use saegis_policy::Faults;

/// Arguments of `saegis module`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Make a folder for a module, with an example, a test and all that it builds with.
    New(new::Args),
    /// Say what is in a module's file, and what it needs.
    Inspect(inspect::Args),
    /// Ask a module what a file of cases says, and compare its answers.
    Test(test::Args),
    /// Say what would change if a module were installed, by what was recorded.
    Try(trial::Args),
    /// Put a shadow module in force, and keep what it replaces.
    Promote(rollout::Args),
    /// Bring back what a promoted module has replaced; that one is a shadow again.
    Rollback(rollout::Args),
}

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
    Rollout(#[from] rollout::RolloutError),
    /// A file can't be read, or is no module.
    #[error("{}: {why}", saegis_policy::Shown(file))]
    Unusable {
        /// The file.
        file: PathBuf,
        /// Why, and what to do.
        why: String,
    },
}

/// A module that no gateway loads ends with this.
const REFUSED: u8 = 4;

/// Largest module that is read, in bytes: what a gateway takes.
const MAX_MODULE: u64 = 64 << 20;

/// Runs one verb, and returns the process's exit code.
///
/// # Errors
/// Why it came to nothing.
pub async fn run(args: Args, as_json: bool) -> Result<u8, ModuleError> {
    match args.verb {
        Verb::New(args) => new::run(&args, as_json).map(|()| 0),
        Verb::Inspect(args) => inspect::run(&args, as_json),
        Verb::Test(args) => test::run(&args, as_json).await,
        Verb::Try(args) => trial::run(&args, as_json).await,
        Verb::Promote(args) => rollout::run(&args, rollout::Way::Promote, as_json).await,
        Verb::Rollback(args) => rollout::run(&args, rollout::Way::RollBack, as_json).await,
    }
}
