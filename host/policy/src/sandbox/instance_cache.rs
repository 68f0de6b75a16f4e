//! Instances that are reused for further calls, where the module asks for it and the settings allow it.
//!
//! Data of one device may then reach another through the memory of the module. So reuse is allowed by name.
//! An instance serves a bounded number of calls, and ends with any fault in it and with its generation.

use std::sync::{Mutex, PoisonError};

use wasmtime::Store;
use wasmtime::component::Instance;

use crate::host::call::Call;

/// Instances of one module that are kept at a time. Each has a slot of the pool.
pub(crate) const MAX_IDLE_INSTANCES: usize = 16;

/// The instances of one module, in one generation, that wait for their next call.
pub(crate) struct InstanceCache {
    /// Calls that an instance may be made for.
    calls: u32,
    /// `None` once the generation is over.
    idle: Mutex<Option<Vec<IdleInstance>>>,
}

/// An instance between two calls.
pub(crate) struct IdleInstance {
    pub store: Store<Call>,
    pub instance: Instance,
    /// Calls that it was made for.
    pub calls: u32,
}

impl InstanceCache {
    pub fn new(calls: u32) -> Self {
        Self { calls, idle: Mutex::new(Some(Vec::new())) }
    }

    pub fn take(&self) -> Option<IdleInstance> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).as_mut()?.pop()
    }

    /// Takes an instance back, if it may live on and there is room.
    pub fn put(&self, idle: IdleInstance) {
        if idle.calls >= self.calls || !idle.store.data().is_reusable() {
            return;
        }
        let mut place = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(others) = place.as_mut().filter(|others| others.len() < MAX_IDLE_INSTANCES) {
            others.push(idle);
        }
    }

    /// Ends them all: their generation is over.
    pub fn end(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}
