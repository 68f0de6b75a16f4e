//! Log lines while a module compiles: a large one, such as a module in Python, takes half a minute.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// Time after which a compilation is logged.
const FIRST_NOTICE: Duration = Duration::from_secs(2);

/// Interval of further log lines.
const INTERVAL: Duration = Duration::from_secs(10);

/// A compilation that is logged while it takes long, until it is dropped.
pub(crate) struct SlowCompilation {
    _done: mpsc::Sender<()>,
}

impl SlowCompilation {
    /// Starts to watch a compilation. Without a thread for it, nothing is logged.
    pub fn watch(module: &str, bytes: usize) -> Self {
        let (done, ended) = mpsc::channel::<()>();
        let (module, started) = (module.to_owned(), Instant::now());
        let log = move || {
            let mut wait = FIRST_NOTICE;
            while ended.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                let seconds = started.elapsed().as_secs();
                tracing::info!(
                    event = "module.compiling",
                    module,
                    bytes,
                    seconds,
                    "compiling a large module; the code cache keeps the result"
                );
                wait = INTERVAL;
            }
        };
        // A small stack, because a module is loaded beside others.
        let _ = thread::Builder::new().name("policy-slow".into()).stack_size(128 << 10).spawn(log);
        Self { _done: done }
    }
}
