//! Recorded decisions.

use std::time::SystemTime;

use saegis_onem2m::timestamp;
use serde::{Deserialize, Serialize};

use crate::decision::answer::Answer;
use crate::decision::question::{Question, RuntimeQuestion};
use crate::module::contract::CONTRACT;

/// A decision: the question and the answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    /// The version of the contract.
    pub contract: String,
    /// The time of the decision, in the format of oneM2M.
    pub time: String,
    /// The generation that made it.
    pub generation: u64,
    /// The question.
    pub question: Question,
    /// The answer.
    pub answer: Answer,
}

impl Decision {
    pub(crate) fn now(generation: u64, asked: &RuntimeQuestion, answer: &Answer) -> Self {
        Self {
            contract: CONTRACT.into(),
            time: timestamp::format(SystemTime::now()),
            generation,
            question: asked.into(),
            answer: answer.clone(),
        }
    }
}

/// Recorder of decisions. It is called during the decision and must return quickly.
pub trait Recorder: Send + Sync {
    /// Returns whether the next decision must be recorded.
    fn is_due(&self) -> bool;

    /// Records a decision.
    fn record(&self, decision: &Decision);
}

/// Result of a replay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplayOutcome {
    /// This answer.
    Answered(Answer),
    /// A MAF or a module with I/O would be needed.
    NeedsExternal,
}
