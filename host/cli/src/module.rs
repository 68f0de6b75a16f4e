//! `saegis module`: for people who write policy modules.

mod error;
mod inspect;
mod manifest;
mod new;
mod rollout;
mod test;
mod trial;

pub use error::ModuleError;

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
