//! Decisions as they are recorded and replayed.

use std::time::SystemTime;

use saegis_onem2m::timestamp;
use serde::{Deserialize, Serialize};

use crate::decision::answer::Answer;
use crate::decision::question::{Asked, Question};
use crate::module::contract::CONTRACT;

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
    /// The question.
    pub question: Question,
    /// The answer.
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
    fn is_due(&self) -> bool;

    /// Takes a decision down.
    fn record(&self, decision: &Decision);
}

/// The outcome of a replay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplayOutcome {
    /// This answer.
    Answered(Answer),
    /// Somebody outside would have to be asked, and is not: a MAF for a key, or whomever a module with
    /// I/O asks.
    NeedsExternal,
}
