//! Bounds on modules and on policy files.

use std::time::Duration;

/// Bounds on what modules may use.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Computing time of one call.
    pub deadline: Duration,
    /// Linear memory of one call, in bytes, all memories together.
    pub memory: usize,
    /// Calls at a time; further ones wait.
    pub concurrent_calls: usize,
    /// Time of one call of a module that waits for I/O, the waiting included.
    pub waiting_deadline: Duration,
    /// Calls of such modules at a time. They take nothing from `concurrent_calls`.
    pub waiting_calls: usize,
    /// Size of a module file, in bytes.
    pub module_size: u64,
    /// Size of a policy file, in bytes.
    pub file_size: u64,
    /// Time to load a generation, for a file system may never answer.
    pub load_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            deadline: Duration::from_millis(50),
            memory: 16 << 20,
            concurrent_calls: 128,
            waiting_deadline: Duration::from_secs(5),
            waiting_calls: 1024,
            module_size: 64 << 20,
            file_size: 512 << 20,
            load_time: Duration::from_secs(60),
        }
    }
}
