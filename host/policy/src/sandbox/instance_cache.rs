//! Instances that are reused for further calls, if the module requests it and the settings allow
//! it.
//!
//! Data of one device may reach another device through the memory of the module. So reuse is
//! allowed by name. An instance serves a limited number of calls, and ends with any fault and with
//! its generation.

use std::sync::{Mutex, PoisonError};

use wasmtime::Store;
use wasmtime::component::Instance;

use crate::host::call::Call;

/// Maximum number of idle instances of one module. Each occupies a slot of the pool.
pub(crate) const MAX_IDLE_INSTANCES: usize = 16;

/// Idle instances of one module, in one generation.
pub(crate) struct InstanceCache {
    /// Maximum number of calls of an instance.
    calls: u32,
    /// `None` after the end of the generation.
    idle: Mutex<Option<Vec<IdleInstance>>>,
}

/// An instance between two calls.
pub(crate) struct IdleInstance {
    pub store: Store<Call>,
    pub instance: Instance,
    /// Number of calls it has served.
    pub calls: u32,
}

impl InstanceCache {
    pub fn new(calls: u32) -> Self {
        Self { calls, idle: Mutex::new(Some(Vec::new())) }
    }

    pub fn take(&self) -> Option<IdleInstance> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).as_mut()?.pop()
    }

    /// Returns an instance to the cache, if it may be reused and there is room.
    pub fn put(&self, idle: IdleInstance) {
        if idle.calls >= self.calls || !idle.store.data().is_reusable() {
            return;
        }
        let mut place = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(others) = place.as_mut().filter(|others| others.len() < MAX_IDLE_INSTANCES) {
            others.push(idle);
        }
    }

    /// Drops all instances at the end of the generation.
    pub fn end(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}
