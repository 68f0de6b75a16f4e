//! Threads for file operations that may block forever, and the state of the folders on disk.
//!
//! A network file system that hangs blocks a thread, which cannot be stopped. So file operations
//! run on a bounded number of separate threads, and callers wait for results with a timeout.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{Semaphore, oneshot};

use crate::data::fault::{Fault, Faults};

/// State of the files on disk, compared with the generation in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskState {
    /// The files are those of the generation in force, as far as known.
    InForce,
    /// The files are being loaded.
    Loading {
        /// The start of the load.
        since: SystemTime,
    },
    /// The files were rejected, completely or because of missing files. The generation in force is
    /// older, or has the older content of those files.
    Refused {
        /// The time of the first rejection since the files were last valid.
        since: SystemTime,
        /// The faults of the last rejection.
        faults: Faults,
    },
}

/// Duration of a load after which the generation in force counts as outdated.
const SLOW_LOAD_TIME: Duration = Duration::from_secs(2);

impl DiskState {
    /// Returns since when the files on disk are newer than the generation in force, and their
    /// state. Returns `None` if they are in force or about to be.
    #[must_use]
    pub fn behind(&self) -> Option<(SystemTime, &'static str)> {
        match self {
            Self::InForce => None,
            Self::Loading { since } => {
                let is_slow = since.elapsed().is_ok_and(|so_far| so_far >= SLOW_LOAD_TIME);
                is_slow.then_some((*since, "is being loaded"))
            }
            Self::Refused { since, .. } => Some((*since, "is refused")),
        }
    }
}

/// Maximum number of threads for files, including those that hang.
const MAX_THREADS: usize = 16;
/// Duration after which a running operation is named when a timeout expires.
const SLOW_AFTER: Duration = Duration::from_millis(500);

/// Urgency of a file operation. Less urgent operations leave threads for more urgent ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// A periodic check of the folders, or a retry.
    Routine,
    /// A file has changed.
    Change,
    /// A request of the operator.
    Operator,
}

impl Urgency {
    /// Returns the maximum number of busy threads at which another one may start.
    fn leaves(self) -> usize {
        match self {
            Self::Routine => MAX_THREADS - 4,
            Self::Change => 4,
            Self::Operator => 0,
        }
    }
}

/// Reason why there is no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DiskError {
    /// The timeout expired. The thread continues in the background.
    #[error("reading it takes longer than {0} s (policy.load-seconds); check its file system")]
    Late(u64),
    /// Too many threads are busy with earlier operations.
    #[error("{0} threads still wait for earlier reads; check the file system")]
    Full(usize),
    /// The thread could not be started or panicked.
    #[error("loading failed: {0}")]
    Failed(String),
}

/// Threads for file operations.
#[derive(Clone)]
pub(crate) struct DiskThreads {
    limit: Duration,
    permits: Arc<Semaphore>,
}

impl DiskThreads {
    /// Creates the threads, with a timeout for each operation.
    pub fn new(limit: Duration) -> Self {
        Self { limit, permits: Arc::new(Semaphore::new(MAX_THREADS)) }
    }

    /// Returns the number of busy threads.
    pub fn busy(&self) -> usize {
        MAX_THREADS.saturating_sub(self.permits.available_permits())
    }

    /// Runs `work` on a separate thread: busy blocking threads of the runtime cannot delay a
    /// reload. The work is informed when its caller no longer waits.
    pub async fn run<T: Send + 'static>(
        &self,
        urgency: Urgency,
        work: impl FnOnce(&AbandonedFlag) -> T + Send + 'static,
    ) -> Result<T, DiskError> {
        if self.permits.available_permits() <= urgency.leaves() {
            return Err(DiskError::Full(self.busy()));
        }
        let full = |_| DiskError::Full(self.busy());
        let permit = self.permits.clone().try_acquire_owned().map_err(full)?;
        let (answer, result) = oneshot::channel();
        let abandoned = AbandonedFlag(Arc::default());
        let abandoned_by_caller = abandoned.clone();
        let work = move || {
            let done = work(&abandoned_by_caller);
            // Before the result: the caller may need the thread at once.
            drop(permit);
            // The caller no longer waits after a timeout or when the gateway stops.
            let _ = answer.send(done);
        };
        std::thread::Builder::new()
            .name("policy-files".into())
            .spawn(work)
            .map_err(|e| DiskError::Failed(e.to_string()))?;
        match tokio::time::timeout(self.limit, result).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(_)) => Err(DiskError::Failed("it ended without a result".into())),
            Err(_) => {
                abandoned.0.store(true, Ordering::Relaxed);
                Err(DiskError::Late(self.limit.as_secs()))
            }
        }
    }
}

/// Flag that informs work that its caller no longer waits.
#[derive(Clone)]
pub(crate) struct AbandonedFlag(Arc<AtomicBool>);

impl AbandonedFlag {
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl DiskError {
    /// Converts it to faults of the slow files, or else of the folder.
    pub fn faults(&self, folder: &Path) -> Faults {
        let slow = match self {
            Self::Late(_) | Self::Full(_) => slow_paths(),
            Self::Failed(_) => Vec::new(),
        };
        let files = if slow.is_empty() { vec![folder.to_owned()] } else { slow };
        Faults(files.iter().map(|file| Fault::of(file, self.to_string())).collect())
    }
}

/// File operations that are running in this process.
static UNDER_WAY: Mutex<BTreeMap<u64, (PathBuf, Instant)>> = Mutex::new(BTreeMap::new());
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Runs an operation on a file, and lists it while it is running.
pub(crate) fn under_way<T>(path: &Path, work: impl FnOnce() -> T) -> T {
    struct ListedOperation(u64);
    impl Drop for ListedOperation {
        fn drop(&mut self) {
            UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
        }
    }
    let noted = ListedOperation(NEXT.fetch_add(1, Ordering::Relaxed));
    let entry = (path.to_owned(), Instant::now());
    UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner).insert(noted.0, entry);
    work()
}

/// Returns the files with slow operations, without duplicates.
fn slow_paths() -> Vec<PathBuf> {
    let all = UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner);
    let slow = all.values().filter(|(_, since)| since.elapsed() >= SLOW_AFTER);
    let mut paths: Vec<_> = slow.map(|(path, _)| path.clone()).collect();
    paths.sort();
    paths.dedup();
    paths
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn threads() -> DiskThreads {
        DiskThreads::new(Duration::from_millis(20))
    }

    #[tokio::test]
    async fn disk_thread_is_free_after_result() {
        let threads = DiskThreads::new(Duration::from_secs(20));
        for n in 0..3 * MAX_THREADS {
            assert_eq!(threads.run(Urgency::Routine, move |_| n).await, Ok(n));
            assert_eq!(threads.busy(), 0);
        }
    }

    /// Each reader hangs until its sender is dropped, as on a file system that does not respond.
    #[tokio::test]
    async fn hanging_readers_are_limited() {
        let threads = threads();
        let mut senders = Vec::new();
        let mut hang = || {
            let (sender, receiver) = mpsc::channel::<()>();
            senders.push(sender);
            move |abandoned: &AbandonedFlag| {
                let _ = receiver.recv();
                assert!(abandoned.is_set());
            }
        };
        for (urgency, most) in
            [(Urgency::Routine, 4), (Urgency::Change, 12), (Urgency::Operator, MAX_THREADS)]
        {
            while threads.busy() < most {
                assert_eq!(threads.run(urgency, hang()).await, Err(DiskError::Late(0)));
            }
            assert_eq!(threads.run(urgency, |_| ()).await, Err(DiskError::Full(most)));
        }
        assert_eq!(threads.busy(), MAX_THREADS);
        // The file system responds again.
        drop(senders);
        let deadline = Instant::now() + Duration::from_secs(20);
        while threads.busy() > 0 {
            assert!(Instant::now() < deadline, "the threads do not end");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let threads = DiskThreads::new(Duration::from_secs(20));
        assert_eq!(threads.run(Urgency::Routine, |_| 1).await, Ok(1));
    }

    #[tokio::test]
    async fn panicking_disk_thread_is_reported() {
        let threads = DiskThreads::new(Duration::from_secs(20));
        let failed = threads.run(Urgency::Routine, |_| -> () { panic!("as it should") }).await;
        assert_eq!(failed, Err(DiskError::Failed("it ended without a result".into())));
        assert_eq!(threads.busy(), 0);
    }

    #[test]
    fn late_read_names_file() {
        let path = Path::new("/nowhere/slow.csv");
        under_way(path, || {
            std::thread::sleep(SLOW_AFTER);
            let faults = DiskError::Late(7).faults(Path::new("/nowhere"));
            let of_it = faults.0.iter().find(|fault| fault.file == path);
            assert!(of_it.unwrap().what.starts_with("reading it takes longer than 7 s"));
        });
        assert!(!slow_paths().contains(&path.to_owned()));
    }
}
