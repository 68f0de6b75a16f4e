//! `[decisions]` and `saegis decisions`: what policy was asked and what it answered, recorded and asked
//! again.

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
    /// Ask modules and policy files what was recorded, and say what would come out otherwise.
    Replay {
        /// The recording.
        file: PathBuf,
        /// The configuration whose modules and policy files are asked.
        #[arg(long, default_value = "saegis.toml")]
        config: PathBuf,
    },
}

/// Runs a verb, and returns the process's exit code: 0 where nothing would change, 1 where something
/// would, 2 where not every line could be asked again.
///
/// # Errors
/// What is wrong with the configuration, the policy or the recording.
pub async fn run(args: Args, as_json: bool) -> Result<u8, Faults> {
    let Verb::Replay { file, config } = args.verb;
    // What can't be read is told before a minute is spent on loading.
    let reading = Reading::of(vec![file])?;
    let policy = open(&Config::load(&config)?, Default::default()).await?;
    let report = against_record(reading, &policy.current()).await?;
    report.print(as_json);
    Ok(report.exit_code())
}

/// The policy of a configuration, with changes, as a gateway would load it; it decides nothing.
///
/// # Errors
/// What is wrong with it.
pub async fn open(config: &Config, changes: saegis_policy::Changes) -> Result<Policy, Faults> {
    // The compiled code that it leaves is for this user alone.
    saegis_gateway::hardening::make_new_files_private();
    let mut settings = config.policy_settings(None);
    settings.changes = changes;
    settings.maf_keys = replay::no_keys_of(config);
    Policy::open(settings).await
}
