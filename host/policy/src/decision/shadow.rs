//! Shadow modules: evaluated beside the modules in force, to show their effect in advance.
//!
//! A shadow is evaluated at its future position in the chain: that of the module that it replaces,
//! or that of its own order. The result of that chain is compared with the result of the chain in
//! force. Modules in force are not called again, unless the decision ended before them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use saegis_onem2m::credential::PresharedKey;

use crate::data::fault::Fault;
use crate::decision::answer::{Answer, Difference};
use crate::decision::evaluate::{self, ChainContext, ChainOutcome, Trace};
use crate::decision::question::{Question, RuntimeQuestion};
use crate::host::log_rate_limit::LogRateLimit;
use crate::module::capability::Capability;
use crate::module::hook::Hook;
use crate::sandbox::engine::Sandbox;
use crate::sandbox::installed::InstalledModule;
use crate::sandbox::module::Module;
use crate::sandbox::observer::{Comparison, CompletedComparison};

/// A shadow module of a generation.
pub(crate) struct Shadow {
    pub installed: InstalledModule,
    /// The chain as it would be with the module in force.
    pub chain: Vec<InstalledModule>,
    pub counts: Arc<Counts>,
    budget: LogRateLimit,
}

/// Counters of the comparisons of a shadow.
#[derive(Default)]
pub(crate) struct Counts {
    agreed: AtomicU64,
    disagreed: AtomicU64,
    not_compared: AtomicU64,
    dropped: AtomicU64,
    /// The last differences, the last one first.
    differences: Mutex<VecDeque<ShadowDifference>>,
}

/// Number of differences that are kept of each shadow.
const MAX_DIFFERENCES: usize = 10;
/// Maximum length of each text of a difference, in characters.
const MAX_TEXT: usize = 300;

/// A decision that would have been different with a shadow module in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShadowDifference {
    /// The time of the decision.
    pub at: SystemTime,
    /// The hook.
    pub hook: Hook,
    /// The question.
    pub question: String,
    /// The decision in force.
    pub in_force: String,
    /// The decision with the shadow module in force.
    pub shadow: String,
}

/// A shadow module that could not be loaded. Since a shadow has no effect, neither has this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UnloadedShadow {
    pub name: String,
    pub faults: Vec<Fault>,
}

/// A summary of a shadow module, for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShadowSummary {
    /// The name of its file, without `.wasm`.
    pub name: String,
    /// Its faults; with any, it is not called.
    pub faults: Vec<Fault>,
    /// The module that it would replace.
    pub replaces: Option<String>,
    /// The hooks that it exports.
    pub hooks: Vec<Hook>,
    /// The capabilities that it has.
    pub capabilities: Vec<Capability>,
    /// SHA-256 of its file.
    pub digest: [u8; 32],
    /// Number of equal decisions.
    pub agreed: u64,
    /// Number of different decisions.
    pub disagreed: u64,
    /// Number of decisions that would have needed a MAF or a module with I/O.
    pub not_compared: u64,
    /// Number of decisions that were dropped because the queue was full.
    pub dropped: u64,
    /// The last differences, the last one first.
    pub differences: Vec<ShadowDifference>,
}

impl Shadow {
    pub fn new(
        installed: InstalledModule,
        chain: Vec<InstalledModule>,
        counts: Arc<Counts>,
    ) -> Self {
        let budget = LogRateLimit::new(&installed.module.name);
        Self { installed, chain, counts, budget }
    }

    pub fn module(&self) -> &Arc<Module> {
        &self.installed.module
    }

    pub fn summary(&self) -> ShadowSummary {
        let module = self.module();
        let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
        ShadowSummary {
            name: module.name.clone(),
            faults: Vec::new(),
            replaces: module.manifest.replaces.clone(),
            hooks: module.hooks(),
            capabilities: module.capabilities.clone(),
            digest: module.digest,
            agreed: count(&self.counts.agreed),
            disagreed: count(&self.counts.disagreed),
            not_compared: count(&self.counts.not_compared),
            dropped: count(&self.counts.dropped),
            differences: self.differences().iter().cloned().collect(),
        }
    }

    fn differences(&self) -> MutexGuard<'_, VecDeque<ShadowDifference>> {
        self.counts.differences.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn count(&self, sandbox: &Sandbox, hook: Hook, comparison: Comparison) {
        let counter = match comparison {
            Comparison::Agreed => &self.counts.agreed,
            Comparison::Disagreed => &self.counts.disagreed,
            Comparison::NotCompared => &self.counts.not_compared,
            Comparison::Dropped => &self.counts.dropped,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        sandbox.report_comparison(&CompletedComparison {
            module: &self.module().name,
            hook,
            comparison,
        });
    }

    /// Returns whether it implements a hook.
    pub fn concerns(&self, hook: Hook) -> bool {
        self.module().has(hook)
    }

    /// Compares a decision with the one that would have been made with this module in force.
    pub async fn compare(&self, job: &ShadowJob) {
        let ShadowJob { context, asked, answer, key, at, trace } = job;
        let hook = asked.hook();
        let sees_keys =
            |name: &str| self.chain.iter().any(|i| i.module.name == name && i.module.sees_keys());
        let comparison =
            match evaluate::evaluate(self.chain.iter(), context, asked, *at, trace).await {
                ChainOutcome::Unchanged => Comparison::Agreed,
                ChainOutcome::NeedsExternal => Comparison::NotCompared,
                ChainOutcome::To(own, own_key) => {
                    let own = own.without_reasons_of(sees_keys);
                    let other_key = key.as_ref().map(PresharedKey::expose)
                        != own_key.as_ref().map(PresharedKey::expose);
                    if answer.differs(&own) == Difference::Effect {
                        self.keep_difference(job, &own.to_string());
                        Comparison::Disagreed
                    } else if other_key {
                        self.keep_difference(job, "found with another key");
                        Comparison::Disagreed
                    } else {
                        Comparison::Agreed
                    }
                }
            };
        self.count(&context.sandbox, hook, comparison);
    }

    /// Keeps a difference for the operator, and logs it.
    fn keep_difference(&self, job: &ShadowJob, shadow: &str) {
        let (hook, in_force, at) = (job.asked.hook(), job.answer.to_string(), job.at);
        let question = Question::from(&job.asked).to_string();
        let (asked, before, after) = (cut(&question), cut(&in_force), cut(shadow));
        let mut kept = self.differences();
        kept.truncate(MAX_DIFFERENCES - 1);
        kept.push_front(ShadowDifference {
            at,
            hook,
            question: asked,
            in_force: before,
            shadow: after,
        });
        drop(kept);
        if !self.budget.try_acquire() {
            return;
        }
        let module = &*self.module().name;
        tracing::info!(
            event = "shadow.disagreed",
            module,
            hook = hook.name(),
            question = %question,
            in_force = %in_force,
            shadow,
            "the shadow module {module} would change {hook} of {question}: {in_force} \u{2192} {shadow}"
        );
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(MAX_TEXT) {
        Some((end, _)) => format!("{}\u{2026}", text.get(..end).unwrap_or_default()),
        None => text.into(),
    }
}

/// A decision for the shadows.
pub(crate) struct ShadowJob {
    pub context: ChainContext,
    pub asked: RuntimeQuestion,
    pub answer: Answer,
    pub key: Option<PresharedKey>,
    pub at: SystemTime,
    pub trace: Trace,
}
