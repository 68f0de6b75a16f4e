//! Threads with a low priority, for work that gives way to other requests.

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;

/// The niceness of the threads. Several of them together have less of a processor than one other.
const NICENESS: i32 = 10;

/// A runtime whose threads have a low priority.
#[derive(Debug)]
pub struct LowPriority(Option<Runtime>);

impl LowPriority {
    /// A runtime for futures, on one thread. Sockets stay with the runtime where they were made.
    pub fn for_futures(name: &str) -> Self {
        Self::new(Builder::new_multi_thread().worker_threads(1).thread_name(name))
    }

    /// A runtime for so many pieces of work that block, each on a thread of its own.
    pub fn for_blocking_work(name: &str, threads: usize) -> Self {
        Self::new(Builder::new_current_thread().max_blocking_threads(threads).thread_name(name))
    }

    fn new(builder: &mut Builder) -> Self {
        let lower = || {
            // Of the thread alone, as Linux has it. Where the system refuses, it is as fast as the others.
            let _ = rustix::process::nice(NICENESS);
        };
        // Where it cannot be had, its work is done as all other.
        Self(builder.enable_time().on_thread_start(lower).build().ok())
    }

    /// The handle of the runtime or, where there is none, of the caller's.
    pub fn handle(&self) -> Handle {
        self.0.as_ref().map_or_else(Handle::current, |runtime| runtime.handle().clone())
    }

    /// Does `work` on a thread that may wait.
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
            // It may be dropped where nothing may wait.
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
