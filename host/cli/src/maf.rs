//! `saegis maf`: an M2M Authentication Function (TS-0003 clause 8.8), a separate service with the
//! handshakes, policy and checks of the gateway.

use std::path::PathBuf;

/// Arguments of `saegis maf`.
#[derive(clap::Args)]
pub struct Args {
    /// Configuration of the MAF
    #[arg(long, default_value = "maf.toml")]
    pub config: PathBuf,
    /// Re-encrypt the store with the key in this file, and exit; the MAF must not run meanwhile
    #[arg(long, value_name = "FILE")]
    pub reencrypt: Option<PathBuf>,
}
