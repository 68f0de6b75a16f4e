//! `saegis module`: tools for authors of policy modules.

mod bindings;
mod error;
mod inspect;
mod new;
mod rollout;
mod test;
mod trial;
mod watch;

use saegis_gateway::admin::protocol::Direction;

pub use error::ModuleError;

/// Arguments of `saegis module`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Create a folder for a module, with an example, tests and a build
    New(new::Args),
    /// Generate the bindings of a module in Rust or C from its folder wit
    Bindings(bindings::Args),
    /// Print the content of a module file, and the capabilities that it needs
    Inspect(inspect::Args),
    /// Call a module with the questions of a file of cases, and compare its responses
    Test(test::Args),
    /// Replay recorded decisions to show the effect of installing a module
    Try(trial::Args),
    /// Build, test and install a module whenever its source changes, into a gateway of your own
    Watch(watch::Args),
    /// Put a shadow module in force; the files of the module that it replaces stay
    Promote(rollout::Args),
    /// Put the module that a promoted module replaced in force again; the promoted one becomes a shadow
    /// again
    Rollback(rollout::Args),
}

/// Runs one verb and returns the exit code of the process.
///
/// # Errors
/// Returns the error of the verb.
pub async fn run(args: Args, as_json: bool) -> Result<u8, ModuleError> {
    match args.verb {
        Verb::New(args) => new::run(&args, as_json).map(|()| 0),
        Verb::Bindings(args) => bindings::run(&args).map(|()| 0),
        Verb::Inspect(args) => inspect::run(&args, as_json),
        Verb::Test(args) => test::run(&args, as_json).await,
        Verb::Try(args) => trial::run(&args, as_json).await,
        Verb::Watch(args) => watch::run(&args).await.map(|()| 0),
        Verb::Promote(args) => rollout::run(&args, Direction::Promote, as_json).await,
        Verb::Rollback(args) => rollout::run(&args, Direction::RollBack, as_json).await,
    }
}
