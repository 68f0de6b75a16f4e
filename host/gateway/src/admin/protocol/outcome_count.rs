//! Counters by outcome.

use serde::{Deserialize, Serialize};

/// Counter of an outcome.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OutcomeCount {
    /// The outcome.
    pub outcome: String,
    /// The number since the start.
    pub count: u64,
}
