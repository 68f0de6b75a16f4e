//! Observers of module calls, such as for metrics.

use std::time::Duration;

use crate::data::decision::ModuleFault;
use crate::module::hook::Hook;

/// A completed module call.
#[derive(Debug, Clone, Copy)]
pub struct CompletedCall<'a> {
    /// The module.
    pub module: &'a str,
    /// The hook that was called.
    pub hook: Hook,
    /// Its outcome.
    pub outcome: Outcome<'a>,
    /// Duration from the question to the answer, including the wait for a sandbox.
    pub took: Duration,
}

/// Result of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// A lookup found the credential, or a mapping the entity.
    Found,
    /// A lookup does not know the identity.
    NotMine,
    /// A lookup rejected the identity.
    Refused,
    /// A check allowed it.
    Allowed,
    /// A check denied it.
    Denied,
    /// The call failed.
    Failed(&'a ModuleFault),
}

impl Outcome<'_> {
    /// The names of all outcomes.
    pub const NAMES: [&'static str; 6] =
        ["found", "not-mine", "refused", "allowed", "denied", "failed"];

    /// Returns a short name, for counters.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::NotMine => "not-mine",
            Self::Refused => "refused",
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Failed(_) => "failed",
        }
    }
}

/// A comparison of a decision with the one that would have been made with a shadow module in force.
#[derive(Debug, Clone, Copy)]
pub struct CompletedComparison<'a> {
    /// The shadow module.
    pub module: &'a str,
    /// The hook that was called.
    pub hook: Hook,
    /// Its outcome.
    pub comparison: Comparison,
}

/// Result of a comparison with a shadow module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// The decisions are equal.
    Agreed,
    /// The decisions differ.
    Disagreed,
    /// The comparison would have needed a MAF or a module with I/O.
    NotCompared,
    /// The comparison was dropped because the queue was full.
    Dropped,
}

impl Comparison {
    /// Returns a short name, for counters.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Agreed => "agreed",
            Self::Disagreed => "disagreed",
            Self::NotCompared => "not-compared",
            Self::Dropped => "dropped",
        }
    }
}

/// Observer of module calls. It is called during the decision and must return quickly.
pub trait Observer: Send + Sync {
    /// Handles a completed call.
    fn decided(&self, decided: &CompletedCall<'_>);

    /// Handles a comparison with a shadow. Without shadows it is never called.
    fn compared(&self, _compared: &CompletedComparison<'_>) {}
}
