//! `saegis maf`: an M2M Authentication Function (TS-0003 clause 8.8), a service of its own on the same
//! handshakes, policy and checks as the gateway.

use std::path::PathBuf;

/// Arguments of `saegis maf`.
#[derive(clap::Args)]
pub struct Args {
    /// The MAF's configuration.
    #[arg(long, default_value = "maf.toml")]
    pub config: PathBuf,
    /// Write the store anew under another key, which is in this file, and end. The MAF must not run.
    #[arg(long, value_name = "FILE")]
    pub reencrypt: Option<PathBuf>,
}
