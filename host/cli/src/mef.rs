//! `saegis mef`: an M2M Enrolment Function (TS-0003 clause 8.3), a separate service with the
//! handshakes, policy and checks of the gateway. It issues certificates by Enrollment over Secure
//! Transport (RFC 7030).

use std::path::PathBuf;

/// Arguments of `saegis mef`.
#[derive(clap::Args)]
pub struct Args {
    /// Configuration of the MEF
    #[arg(long, default_value = "mef.toml")]
    pub config: PathBuf,
}
