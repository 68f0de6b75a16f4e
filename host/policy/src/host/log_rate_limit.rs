//! Rate limit on the log lines of modules.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use crate::data::text::printable;
use crate::host::bindings::saegis::policy::log;

/// Bounds how much a module may write to the log, over all its calls.
pub(crate) struct LogRateLimit {
    module: String,
    started: Instant,
    /// The second that `used` counts, since `started`.
    second: AtomicU32,
    used: AtomicU32,
}

/// Lines a second that are kept of one module.
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

    /// Takes one of this second's lines, if there is one left. The counting is not exact when two
    /// threads pass a second's end together; a few lines more do no harm.
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
                "module writes too much; the rest of this second is dropped"
            );
        }
        used < LINES_PER_SECOND
    }

    /// Writes a line, if the module has one left this second.
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
