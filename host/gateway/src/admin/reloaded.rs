//! The result of a reload that was requested after a policy file was changed.

use std::io::{self, ErrorKind};

use super::protocol::{ReloadOutcome, ReloadReport};

/// Result of a reload.
pub enum Reloaded {
    /// This generation is in force.
    InForce(u64),
    /// The files on disk were rejected, for these reasons.
    Refused(String),
}

impl From<ReloadReport> for Reloaded {
    fn from(report: ReloadReport) -> Self {
        match report.outcome {
            ReloadOutcome::Refused => Self::Refused(report.faults.unwrap_or_default().join("\n")),
            ReloadOutcome::Unchanged | ReloadOutcome::InForce => Self::InForce(report.generation),
        }
    }
}

/// Returns in words when a changed file takes effect, after the gateway was asked to reload. If it rejected
/// the file, calls `restore`.
///
/// # Errors
/// Returns the reasons why the gateway rejected the file.
pub fn activation(
    reloaded: io::Result<Reloaded>,
    restore: impl FnOnce(),
) -> Result<String, String> {
    match reloaded {
        Ok(Reloaded::InForce(generation)) => Ok(format!("generation {generation}")),
        Ok(Reloaded::Refused(faults)) => {
            restore();
            Err(faults)
        }
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
            Ok("no gateway is running; it takes effect at the next start".into())
        }
        Err(e) => Ok(format!("the gateway did not answer, and loads it by itself ({e})")),
    }
}
