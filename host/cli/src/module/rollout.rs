//! `saegis module promote` and `saegis module rollback`.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use saegis_gateway::admin::protocol::Direction;
use saegis_gateway::admin::reloaded::Reloaded;
use saegis_gateway::admin::rollout::{self, Installation};
use saegis_gateway::config::Config;
use saegis_policy::{Changes, Faults, Generation};

use super::error::ModuleError;
use crate::output::print;
use crate::{admin, decisions};

/// Arguments of `saegis module promote` and `rollback`.
#[derive(clap::Args)]
pub struct Args {
    /// Name of the module: its file name without `.wasm`
    name: String,
    /// Configuration of the gateway
    #[arg(long, default_value = "saegis.toml")]
    config: PathBuf,
}

/// A gateway that may be running in another process.
struct OtherProcess<'a>(&'a Config);

impl Installation for OtherProcess<'_> {
    async fn generation_with(&self, changes: Changes) -> Result<Arc<Generation>, Faults> {
        Ok(decisions::open(self.0, changes).await?.current())
    }

    async fn reload(&self) -> io::Result<Reloaded> {
        admin::reload(self.0, false)
    }
}

/// Promotes a shadow, or reactivates the module that it replaced. Returns the exit code.
///
/// # Errors
/// Fails if nothing was changed.
pub async fn run(args: &Args, direction: Direction, as_json: bool) -> Result<u8, ModuleError> {
    let config = Config::load(&args.config)?;
    let other = OtherProcess(&config);
    let report = rollout::roll_out(&config, direction, &args.name, &other).await?;
    if as_json {
        print(&serde_json::json!(report).to_string());
    } else {
        print(&report.summary());
    }
    Ok(0)
}
