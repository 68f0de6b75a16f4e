//! Whether the CSE behind the gateway can be reached.

use std::fmt;
use std::time::SystemTime;

use saegis_onem2m::timestamp;

/// Whether the CSE behind the gateway can be reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Reachability {
    /// It was not checked yet.
    #[default]
    Unknown,
    /// A connection could be opened.
    Up,
    /// No connection could be opened.
    Down {
        /// Since when.
        since: SystemTime,
        /// Cause.
        why: String,
    },
}

impl fmt::Display for Reachability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("not checked yet"),
            Self::Up => f.write_str("up"),
            Self::Down { since, why } => {
                write!(f, "down since {}: {why}", timestamp::format(*since))
            }
        }
    }
}
