//! Low-priority threads for work that gives way to other requests.

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;

/// The niceness of the threads. Several of them together have less of a processor than one other.
const NICENESS: i32 = 10;

/// Runtime with low-priority threads.
#[derive(Debug)]
pub struct LowPriority(Option<Runtime>);

impl LowPriority {
    /// A runtime for futures, on one thread. Sockets stay with the runtime where they were made.
    pub fn for_futures(name: &str) -> Self {
        Self::new(Builder::new_multi_thread().worker_threads(1).thread_name(name))
    }

    /// Creates a runtime for blocking work, with up to `threads` threads.
    pub fn for_blocking_work(name: &str, threads: usize) -> Self {
        Self::new(Builder::new_current_thread().max_blocking_threads(threads).thread_name(name))
    }

    fn new(builder: &mut Builder) -> Self {
        let lower = || {
            // On Linux this applies to the thread only. If the system refuses, the thread has the
            // normal priority.
            let _ = rustix::process::nice(NICENESS);
        };
        // Without the runtime, its work runs in that of the caller.
        Self(builder.enable_time().on_thread_start(lower).build().ok())
    }

    /// Returns the handle of the runtime, or that of the caller's runtime.
    pub fn handle(&self) -> Handle {
        self.0.as_ref().map_or_else(Handle::current, |runtime| runtime.handle().clone())
    }

    /// Runs `work` on a thread that may block.
    pub fn spawn_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        self.handle().spawn_blocking(work)
    }
}

impl Drop for LowPriority {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // It may be dropped in a context that must not block.
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::getpriority_process;

    use super::*;

    #[tokio::test]
    async fn only_low_priority_threads_are_niced() {
        let niceness = || getpriority_process(None).unwrap();
        let before = niceness();
        let low = (before + NICENESS).min(19);
        let blocking = LowPriority::for_blocking_work("test", 1);
        assert_eq!(blocking.spawn_blocking(niceness).await.unwrap(), low);
        let futures = LowPriority::for_futures("test");
        let later = async move {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            niceness()
        };
        assert_eq!(futures.handle().spawn(later).await.unwrap(), low);
        assert_eq!(niceness(), before);
    }
}
