//! Low-priority threads for work that gives way to other requests.

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;

/// The niceness of threads, beyond that of the process.
#[derive(Debug, Clone, Copy)]
pub enum Niceness {
    /// Several of the threads together have less of a processor than one other.
    Low = 10,
    /// Many of the threads together have little of a processor that another wants.
    Lowest = 19,
}

/// Runtime with low-priority threads.
#[derive(Debug)]
pub struct LowPriority(Option<Runtime>);

impl LowPriority {
    /// A runtime for futures, on so many threads. Sockets stay with the runtime where they were made.
    pub fn for_futures(name: &str, threads: usize, niceness: Niceness) -> Self {
        Self::new(Builder::new_multi_thread().worker_threads(threads).thread_name(name), niceness)
    }

    /// Creates a runtime for blocking work, with up to `threads` threads.
    pub fn for_blocking_work(name: &str, threads: usize, niceness: Niceness) -> Self {
        Self::new(
            Builder::new_current_thread().max_blocking_threads(threads).thread_name(name),
            niceness,
        )
    }

    fn new(builder: &mut Builder, niceness: Niceness) -> Self {
        let lower = move || {
            // On Linux this applies to the thread only. If the system refuses, the thread has the
            // normal priority.
            let _ = rustix::process::nice(niceness as i32);
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
        let low = |niceness| (before + niceness as i32).min(19);
        let blocking = LowPriority::for_blocking_work("test", 1, Niceness::Lowest);
        assert_eq!(blocking.spawn_blocking(niceness).await.unwrap(), low(Niceness::Lowest));
        let futures = LowPriority::for_futures("test", 1, Niceness::Low);
        let later = async move {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            niceness()
        };
        assert_eq!(futures.handle().spawn(later).await.unwrap(), low(Niceness::Low));
        assert_eq!(niceness(), before);
    }
}
