//! Decisions as they are recorded, and asked again.

use std::time::SystemTime;

use saegis_onem2m::timestamp;
use serde::{Deserialize, Serialize};

use crate::decision::answer::Answer;
use crate::decision::question::{Asked, Question};

/// The version of the contract that this gateway has, as `wit/` tells it.
pub const CONTRACT: &str = "0.1.0";

/// Whether what was recorded under a version of the contract means the same under ours.
#[must_use]
pub fn is_our_contract(version: &str) -> bool {
    version == "0.1" || version.starts_with("0.1.")
}

/// A decision: what was asked, and what came of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    /// The version of the contract.
    pub contract: String,
    /// When it was made, as oneM2M writes times.
    pub time: String,
    /// The generation that made it.
    pub generation: u64,
    /// What was asked.
    pub question: Question,
    /// What came of it.
    pub answer: Answer,
}

impl Decision {
    pub(crate) fn now(generation: u64, asked: &Asked, answer: &Answer) -> Self {
        Self {
            contract: CONTRACT.into(),
            time: timestamp::format(SystemTime::now()),
            generation,
            question: asked.into(),
            answer: answer.clone(),
        }
    }
}

/// Takes decisions down. It is called on the way of the decision: it must be quick.
pub trait Recorder: Send + Sync {
    /// Whether the next decision is to be taken down.
    fn takes(&self) -> bool;

    /// Takes a decision down.
    fn take(&self, decision: &Decision);
}

/// What a recorded question comes to, asked again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Again {
    /// This answer.
    Answered(Answer),
    /// Somebody outside would have to be asked, and is not: a MAF for a key, or whomever a module with
    /// I/O asks.
    NeedsOthers,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_that_of_the_contract() {
        let wit = include_str!("../../../../wit/types.wit");
        assert!(wit.starts_with(&format!("package saegis:policy@{CONTRACT};")));
        assert!(is_our_contract(CONTRACT) && is_our_contract("0.1.7"));
        assert!(!is_our_contract("0.2.0") && !is_our_contract("0.10.0") && !is_our_contract(""));
    }
}
