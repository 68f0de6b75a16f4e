//! Arguments of `cargo xtask bench`.

use clap::ValueEnum;

/// A part of the benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// New connections with pre-shared keys
    Psk,
    /// New connections with certificates
    Certificates,
    /// Requests over persistent connections
    KeepAlive,
    /// Creates over MQTT, and idle sessions
    Mqtt,
    /// Idle associations, a million rows, starts, reloads
    Scale,
    /// Effect of a second core
    Cores,
    /// Rates without TLS, and in-memory handshakes
    Limits,
}

/// Arguments of the benchmark.
#[derive(clap::Args)]
pub struct Args {
    /// Run only these parts
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(super) only: Vec<Part>,
    /// Run one short round with fewer identities, as a smoke test
    #[arg(long)]
    pub(super) quick: bool,
    /// Compare only this checkout and another commit
    #[arg(long, value_name = "REV", conflicts_with_all = ["only", "quick"])]
    pub(super) against: Option<String>,
    /// Number of rounds of a comparison with another commit
    #[arg(long, value_name = "N", default_value_t = 9, requires = "against")]
    pub(super) rounds: usize,
    /// Compare only the rows whose names contain one of these texts
    #[arg(long, value_name = "TEXT", requires = "against")]
    pub(super) row: Vec<String>,
    /// Give the server both cores in a comparison with another commit
    #[arg(long, requires = "against")]
    pub(super) both_cores: bool,
}

impl Args {
    pub(super) fn wants(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }
}
