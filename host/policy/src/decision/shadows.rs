//! Shadow modules of a generation.

use std::sync::Arc;

use crate::decision::shadow::{Counts, Shadow, ShadowJob, ShadowSummary, UnloadedShadow};
use crate::decision::shadow_queue::{QueueFull, ShadowQueue};
use crate::module::hook::Hook;
use crate::sandbox::module::Module;
use crate::sandbox::observer::Comparison;

/// Shadow modules of a generation.
pub(crate) struct Shadows {
    pub loaded: Arc<[Shadow]>,
    pub unloaded: Vec<UnloadedShadow>,
    pub queue: ShadowQueue,
}

impl Shadows {
    pub fn none() -> Self {
        Self { loaded: Arc::from([]), unloaded: Vec::new(), queue: ShadowQueue::none() }
    }

    /// Returns whether one of them implements a hook.
    pub fn concern(&self, hook: Hook) -> bool {
        self.loaded.iter().any(|shadow| shadow.concerns(hook))
    }

    /// Queues a decision for them, without waiting.
    pub fn put(&self, job: ShadowJob) {
        let (sandbox, hook) = (job.context.sandbox.clone(), job.asked.hook());
        let Err(QueueFull) = self.queue.put(self.loaded.clone(), job) else { return };
        let of_hook = || self.loaded.iter().filter(|shadow| shadow.concerns(hook));
        of_hook().for_each(|shadow| shadow.count(&sandbox, hook, Comparison::Dropped));
        if self.queue.should_warn() {
            let names: Vec<_> = of_hook().map(|shadow| &*shadow.module().name).collect();
            let names = names.join(", ");
            tracing::warn!(
                event = "shadow.backlog",
                modules = names,
                "dropped decisions for the shadow modules, because they respond too slowly: \
                 {names}"
            );
        }
    }

    /// Returns whether two generations have the same shadows.
    pub fn are_same(&self, other: &Self) -> bool {
        self.unloaded == other.unloaded
            && self.loaded.len() == other.loaded.len()
            && self
                .loaded
                .iter()
                .zip(&*other.loaded)
                .all(|(a, b)| a.installed.is_same(&b.installed))
    }

    /// Returns the counters of a module that was already a shadow.
    pub fn counts_of(&self, module: &Arc<Module>) -> Option<Arc<Counts>> {
        let found = self.loaded.iter().find(|shadow| Arc::ptr_eq(shadow.module(), module));
        found.map(|shadow| shadow.counts.clone())
    }

    pub fn summaries(&self) -> Vec<ShadowSummary> {
        let unloaded = self.unloaded.iter().map(|unloaded| ShadowSummary {
            name: unloaded.name.clone(),
            faults: unloaded.faults.clone(),
            replaces: None,
            hooks: Vec::new(),
            capabilities: Vec::new(),
            digest: [0; 32],
            agreed: 0,
            disagreed: 0,
            not_compared: 0,
            dropped: 0,
            differences: Vec::new(),
        });
        self.loaded.iter().map(Shadow::summary).chain(unloaded).collect()
    }
}
