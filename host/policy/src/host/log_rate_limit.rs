//! Rate limit of the log lines of modules.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use crate::data::text::printable;
use crate::host::bindings::saegis::policy::log;

/// Limits the log lines of a module, over all its calls.
pub(crate) struct LogRateLimit {
    module: String,
    started: Instant,
    /// Second that `used` counts, since `started`.
    second: AtomicU32,
    used: AtomicU32,
}

/// Maximum number of log lines of a module per second.
const LINES_PER_SECOND: u32 = 20;

impl LogRateLimit {
    pub fn new(module: &str) -> Self {
        Self {
            module: module.into(),
            started: Instant::now(),
            second: AtomicU32::new(0),
            used: AtomicU32::new(0),
        }
    }

    /// Takes one of the lines of the current second, if there is one left. The count is not exact
    /// when two threads pass the end of a second together; a few additional lines are harmless.
    pub fn try_acquire(&self) -> bool {
        let second = u32::try_from(self.started.elapsed().as_secs()).unwrap_or(u32::MAX);
        if self.second.swap(second, Ordering::Relaxed) != second {
            self.used.store(0, Ordering::Relaxed);
        }
        let used = self.used.fetch_add(1, Ordering::Relaxed);
        let module = &*self.module;
        if used == LINES_PER_SECOND {
            tracing::warn!(
                event = "module.log-limited",
                module,
                "dropped log lines of a module: the limit per second is reached"
            );
        }
        used < LINES_PER_SECOND
    }

    /// Writes a line, if the limit allows it.
    pub fn write(&self, level: log::Level, line: &str) {
        if !self.try_acquire() {
            return;
        }
        let module = &*self.module;
        let line = printable(line);
        match level {
            log::Level::Debug => tracing::debug!(event = "module.log", module, "{line}"),
            log::Level::Info => tracing::info!(event = "module.log", module, "{line}"),
            log::Level::Warn => tracing::warn!(event = "module.log", module, "{line}"),
        }
    }
}
