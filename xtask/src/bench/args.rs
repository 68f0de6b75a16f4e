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
    /// Requests over CoAP and DTLS, and idle associations
    Coap,
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
    /// Build without optimization at link time, which takes minutes less
    #[arg(long, conflicts_with = "against")]
    pub(super) trial: bool,
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

/// Build profile of a release.
const RELEASE: [&str; 1] = ["--release"];

/// Build profile without optimization at link time, for commits that may not define it.
pub(super) const TRIAL: [&str; 8] = [
    "--profile",
    "trial",
    "--config",
    "profile.trial.inherits=\"release\"",
    "--config",
    "profile.trial.lto=false",
    "--config",
    "profile.trial.codegen-units=16",
];

impl Args {
    /// Returns the folder of the build profile, and cargo's arguments for it.
    pub(super) fn profile(&self) -> (&'static str, &'static [&'static str]) {
        if self.trial { ("trial", &TRIAL) } else { ("release", &RELEASE) }
    }

    pub(super) fn wants(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }
}
