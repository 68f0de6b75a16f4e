//! Threads for file operations, which may block for ever, and the state of the folders on disk.
//!
//! A network file system that hangs blocks a thread, and nothing can end such a thread. So file
//! operations have a bounded number of threads of their own, and a caller waits for the result for a
//! bounded time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{Semaphore, oneshot};

use crate::data::fault::{Fault, Faults};

/// How what is on disk stands to the generation in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskState {
    /// It is the generation in force, as far as is known.
    InForce,
    /// It is being loaded.
    Loading {
        /// Since when.
        since: SystemTime,
    },
    /// It was refused, whole or for files that are gone. The generation in force is an older one, or has
    /// the content of those files from an older one.
    Refused {
        /// When it was refused for the first time since it was last good.
        since: SystemTime,
        /// Why it was refused the last time.
        faults: Faults,
    },
}

/// How long a load may take before what is on disk counts as behind.
const SLOW_LOAD_TIME: Duration = Duration::from_secs(2);

impl DiskState {
    /// Since when what is on disk is newer than what is in force, and how it stands to that; none,
    /// where it is in force or about to be.
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

/// Maximum number of threads that work on files, those that hang included.
const MAX_THREADS: usize = 16;
/// Operations that have taken longer than this are named where time is up.
const SLOW_AFTER: Duration = Duration::from_millis(500);

/// Who wants something of the disk. The less urgent leaves threads to the more urgent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// The regular look at the folders, or a retry.
    Routine,
    /// Something has changed.
    Change,
    /// The operator asked for it.
    Operator,
}

impl Urgency {
    /// How many threads may be busy at the most for one more to be started.
    fn leaves(self) -> usize {
        match self {
            Self::Routine => MAX_THREADS - 4,
            Self::Change => 4,
            Self::Operator => 0,
        }
    }
}

/// Why there is no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DiskError {
    /// The time is up. The thread goes on by itself.
    #[error(
        "reading it takes longer than {0} s (policy.load-seconds); does its file system answer?"
    )]
    Late(u64),
    /// Too many threads are busy, for those before did not come to an end.
    #[error(
        "{0} threads still wait for files that were read before; does their file system answer?"
    )]
    Full(usize),
    /// There is no thread, or it failed.
    #[error("loading failed: {0}")]
    Failed(String),
}

/// Threads that work on files.
#[derive(Clone)]
pub(crate) struct DiskThreads {
    limit: Duration,
    permits: Arc<Semaphore>,
}

impl DiskThreads {
    /// Each call has so much time.
    pub fn new(limit: Duration) -> Self {
        Self { limit, permits: Arc::new(Semaphore::new(MAX_THREADS)) }
    }

    /// How many threads are busy.
    pub fn busy(&self) -> usize {
        MAX_THREADS.saturating_sub(self.permits.available_permits())
    }

    /// Has `work` done by a thread of its own: whoever keeps the runtime's blocking threads busy
    /// can't put off the reload that would end that. The work is told when nobody waits for it
    /// any longer.
    pub async fn run<T: Send + 'static>(
        &self,
        urgency: Urgency,
        work: impl FnOnce(&Abandoned) -> T + Send + 'static,
    ) -> Result<T, DiskError> {
        if self.permits.available_permits() <= urgency.leaves() {
            return Err(DiskError::Full(self.busy()));
        }
        let full = |_| DiskError::Full(self.busy());
        let permit = self.permits.clone().try_acquire_owned().map_err(full)?;
        let (answer, result) = oneshot::channel();
        let abandoned = Abandoned(Arc::default());
        let abandoned_by_caller = abandoned.clone();
        let work = move || {
            let done = work(&abandoned_by_caller);
            // Before the answer: whoever has it may want the next thread at once.
            drop(permit);
            // Nobody waits any longer when the time is up or the gateway stops.
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

/// Tells work that nobody waits for it any longer.
#[derive(Clone)]
pub(crate) struct Abandoned(Arc<AtomicBool>);

impl Abandoned {
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl DiskError {
    /// The same as faults: of the files that are waited for, or else of the folder.
    pub fn faults(&self, folder: &Path) -> Faults {
        let slow = match self {
            Self::Late(_) | Self::Full(_) => slow_paths(),
            Self::Failed(_) => Vec::new(),
        };
        let files = if slow.is_empty() { vec![folder.to_owned()] } else { slow };
        Faults(files.iter().map(|file| Fault::of(file, self.to_string())).collect())
    }
}

/// The operations on files that are under way in this process.
static UNDER_WAY: Mutex<BTreeMap<u64, (PathBuf, Instant)>> = Mutex::new(BTreeMap::new());
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Does something with a file, which is noted for as long as that takes.
pub(crate) fn under_way<T>(path: &Path, work: impl FnOnce() -> T) -> T {
    struct Noted(u64);
    impl Drop for Noted {
        fn drop(&mut self) {
            UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
        }
    }
    let noted = Noted(NEXT.fetch_add(1, Ordering::Relaxed));
    let entry = (path.to_owned(), Instant::now());
    UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner).insert(noted.0, entry);
    work()
}

/// The files on which something is under way for long, each once.
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

    /// Each reader hangs until its sender is gone, as on a file system that does not answer.
    #[tokio::test]
    async fn hanging_readers_are_limited() {
        let threads = threads();
        let mut senders = Vec::new();
        let mut hang = || {
            let (sender, receiver) = mpsc::channel::<()>();
            senders.push(sender);
            move |abandoned: &Abandoned| {
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
        // The file system answers again.
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
