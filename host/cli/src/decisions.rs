//! `saegis decisions`: replays recorded policy decisions.

mod reader;
mod replay;
mod report;

use std::path::PathBuf;

use saegis_policy::{Faults, Policy};

pub use reader::Reading;
pub use replay::{against_policy, against_record};
pub use report::Report;

use saegis_gateway::config::Config;

/// Arguments of `saegis decisions`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Replay recorded decisions against modules and policy files, and print the differences
    Replay {
        /// Recording
        file: PathBuf,
        /// Configuration with the modules and policy files to use
        #[arg(long, default_value = "saegis.toml")]
        config: PathBuf,
    },
}

/// Runs a verb and returns the exit code of the process: 0 if no decision would change, 1 if a
/// decision would change, 2 if not every line could be replayed.
///
/// # Errors
/// Returns all faults of the configuration, the policy or the recording.
pub async fn run(args: Args, as_json: bool) -> Result<u8, Faults> {
    let Verb::Replay { file, config } = args.verb;
    // Checked before the policy is loaded, which can take a minute.
    let reading = Reading::of(vec![file])?;
    let policy = open(&Config::load(&config)?, Default::default()).await?;
    let report = against_record(reading, &policy.current()).await?;
    report.print(as_json);
    Ok(report.exit_code())
}

/// Loads the policy of a configuration, with changes, in the same way as a gateway. It makes no
/// decisions.
///
/// # Errors
/// Returns all faults of the policy.
pub async fn open(config: &Config, changes: saegis_policy::Changes) -> Result<Policy, Faults> {
    // The compiled code that this leaves must be private to this user.
    saegis_gateway::hardening::make_new_files_private();
    let mut settings = config.policy_settings(None);
    settings.changes = changes;
    settings.maf_keys = replay::no_keys_of(config);
    Policy::open(settings).await
}
