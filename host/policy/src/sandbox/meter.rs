//! The cost of calls of a module, for its author.

use std::sync::Mutex;
use std::time::Duration;

use crate::sandbox::observer::{CompletedCall, Observer};

/// The resources that a call has used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Used {
    /// From the question to the answer.
    pub took: Duration,
    /// Instructions, by wasmtime's count: the same call uses the same each time.
    pub fuel: u64,
    /// Linear memory, in bytes, all memories together.
    pub memory: usize,
}

/// Adds up what calls use.
#[derive(Default)]
pub(crate) struct Meter(Mutex<Used>);

impl Meter {
    /// Adds what a sandbox has used.
    pub fn add(&self, fuel: u64, memory: usize) {
        let mut used = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        used.fuel = used.fuel.saturating_add(fuel);
        used.memory = used.memory.max(memory);
    }

    /// Returns and resets the resources used.
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
