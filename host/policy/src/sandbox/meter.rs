//! Resource usage of module calls, for the author of a module.

use std::sync::Mutex;
use std::time::Duration;

use crate::sandbox::observer::{CompletedCall, Observer};

/// Resources used by a call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Used {
    /// Duration from the question to the answer.
    pub took: Duration,
    /// Executed instructions, as counted by wasmtime: equal for equal calls.
    pub fuel: u64,
    /// Linear memory, in bytes, for all memories together.
    pub memory: usize,
}

/// Sums the resources used by calls.
#[derive(Default)]
pub(crate) struct Meter(Mutex<Used>);

impl Meter {
    /// Adds the resources used by a sandbox.
    pub fn add(&self, fuel: u64, memory: usize) {
        let mut used = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        used.fuel = used.fuel.saturating_add(fuel);
        used.memory = used.memory.max(memory);
    }

    /// Returns and resets the used resources.
    pub fn take(&self) -> Used {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

impl Observer for Meter {
    fn decided(&self, decided: &CompletedCall<'_>) {
        let mut used = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        used.took = used.took.saturating_add(decided.took);
    }
}
