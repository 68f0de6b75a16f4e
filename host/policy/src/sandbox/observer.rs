//! Observers of calls, as for metrics.

use std::time::Duration;

use crate::data::decision::ModuleFault;
use crate::module::hook::Hook;

/// A call of a module that has ended.
#[derive(Debug, Clone, Copy)]
pub struct CompletedCall<'a> {
    /// The module.
    pub module: &'a str,
    /// The hook that was called.
    pub hook: Hook,
    /// Its outcome.
    pub outcome: Outcome<'a>,
    /// From the question to the answer, the wait for a sandbox included.
    pub took: Duration,
}

/// The outcome of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// A look-up found the credential, or a mapping the entity.
    Found,
    /// A look-up does not know the identity.
    NotMine,
    /// A look-up refused the identity.
    Refused,
    /// A check allowed it.
    Allowed,
    /// A check denied it.
    Denied,
    /// The call failed.
    Failed(&'a ModuleFault),
}

impl Outcome<'_> {
    /// A short name, for counters.
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

/// A comparison of what came of a decision with what would have come of it with a shadow module in
/// force.
#[derive(Debug, Clone, Copy)]
pub struct CompletedComparison<'a> {
    /// The shadow module.
    pub module: &'a str,
    /// The hook that was called.
    pub hook: Hook,
    /// Its outcome.
    pub comparison: Comparison,
}

/// The outcome of a comparison with a shadow module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// The same.
    Agreed,
    /// Something else.
    Disagreed,
    /// It could not be made without asking a MAF, or a module with I/O.
    NotCompared,
    /// It was not made, for too many waited.
    Dropped,
}

impl Comparison {
    /// A short name, for counters.
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

/// Is told of each call. It is called on the way of the decision: it must be quick.
pub trait Observer: Send + Sync {
    /// A call has ended.
    fn decided(&self, decided: &CompletedCall<'_>);

    /// A decision was compared with a shadow's; whoever has no shadows is never told.
    fn compared(&self, _compared: &CompletedComparison<'_>) {}
}
