//! Limits of modules and policy files.

use std::time::Duration;

use crate::data::decision::ModuleFault;

/// Maximum number of core instances of a component with a large runtime (Python: 38).
pub(crate) const CORE_INSTANCES_PER_CALL: u32 = 48;

/// Maximum number of memories of a component. It has one, or two if a WASI adapter has its own.
pub(crate) const MEMORIES_PER_CALL: u32 = 4;

/// Limits of modules and policy files.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Maximum computing time of one call.
    pub deadline: Duration,
    /// Maximum linear memory of one call, in bytes, for all memories together.
    pub memory: usize,
    /// Maximum number of concurrent calls; further ones wait.
    pub concurrent_calls: usize,
    /// Whether addresses for the memories of all concurrent calls are reserved in advance, so that a
    /// call starts without mapping memory.
    pub pool: bool,
    /// Maximum time of one call of a module with I/O, including waiting.
    pub waiting_deadline: Duration,
    /// Maximum number of concurrent calls of such modules. They use separate slots.
    pub waiting_calls: usize,
    /// Maximum size of a module file, in bytes.
    pub module_size: u64,
    /// Maximum size of a policy file, in bytes.
    pub file_size: u64,
    /// Timeout for loading a generation: a file system may not respond.
    pub load_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            deadline: Duration::from_millis(50),
            memory: 16 << 20,
            concurrent_calls: 128,
            pool: true,
            waiting_deadline: Duration::from_secs(5),
            waiting_calls: 1024,
            module_size: 64 << 20,
            file_size: 512 << 20,
            load_time: Duration::from_secs(60),
        }
    }
}

impl Limits {
    /// Returns the fault of a call that exceeded its time: its computing time, or the whole time of a
    /// module with I/O.
    pub(crate) fn deadline_fault(&self, whole: bool) -> ModuleFault {
        if whole {
            let key = "modules.waiting-milliseconds";
            ModuleFault::Deadline { limit: self.waiting_deadline, key }
        } else {
            ModuleFault::Deadline { limit: self.deadline, key: "modules.deadline-milliseconds" }
        }
    }
}
