//! `wasi:keyvalue`: a small durable store for each module with that capability.
//!
//! The implementation of the runtime crate does not persist values, so only its interface is used.
//! A store is a redb file with a separate thread, so that a slow disk only delays its module. The
//! thread combines all waiting requests in one transaction, and responds after it is on disk.

mod file;
mod message;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use file::File;
use message::QueuedRequest;
pub(crate) use message::{Answer, Question};
use tokio::sync::{mpsc, oneshot};

/// Maximum number of queued requests of a store; further ones wait.
const MAX_QUEUED: usize = 1024;

/// Stores of all modules. Each is opened at its first use. So `saegis check`, which only loads
/// modules, does not touch the stores of a running gateway.
pub struct Stores {
    /// Folder of the files; `None` for stores in memory.
    folder: Option<PathBuf>,
    open: Mutex<BTreeMap<String, mpsc::Sender<QueuedRequest>>>,
}

/// Store of one module.
pub(crate) struct Store {
    asked: mpsc::Sender<QueuedRequest>,
    quota: u64,
}

impl Stores {
    /// Creates stores in files `NAME.redb` of a folder.
    #[must_use]
    pub fn in_folder(folder: PathBuf) -> Self {
        Self { folder: Some(folder), open: Mutex::default() }
    }

    /// Creates stores in memory, for tests of modules.
    #[must_use]
    pub fn in_memory() -> Self {
        Self { folder: None, open: Mutex::default() }
    }

    /// Returns the store of that name, with a quota in bytes.
    pub(crate) fn of(&self, name: &str, quota: u64) -> Arc<Store> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        // A thread that ended, such as after a damaged file, is restarted with the next generation.
        if let Some(asked) = open.get(name).filter(|asked| !asked.is_closed()) {
            return Arc::new(Store { asked: asked.clone(), quota });
        }
        let (asked, questions) = mpsc::channel(MAX_QUEUED);
        let path = self.folder.as_ref().map(|folder| folder.join(format!("{name}.redb")));
        let file = File::new(name, path);
        let thread = std::thread::Builder::new().name("key-value".into());
        // Without a thread, requests fail, and the caller receives the error.
        if let Err(e) = thread.spawn(move || file.serve(questions)) {
            tracing::error!(
                event = "key-value.failed",
                module = name,
                "cannot start a thread: {e}"
            );
        }
        open.insert(name.into(), asked.clone());
        Arc::new(Store { asked, quota })
    }
}

impl Store {
    /// Returns whether it is the same store with the same quota.
    pub fn is_same(&self, other: &Self) -> bool {
        self.asked.same_channel(&other.asked) && self.quota == other.quota
    }

    /// Adds initial values.
    pub fn fill(&self, values: BTreeMap<String, String>) {
        let values = values.into_iter().map(|(key, value)| (key, value.into_bytes())).collect();
        let (question, (answer, _)) = (Question::Set(values), oneshot::channel());
        // This is the first request, so there is room.
        let _ = self.asked.try_send(QueuedRequest { question, quota: self.quota, answer });
    }

    /// Sends a request.
    pub async fn ask(&self, question: Question) -> Answer {
        let gone = || Answer::Failed("the store has failed".into());
        let (answer, answered) = oneshot::channel();
        let asked = QueuedRequest { question, quota: self.quota, answer };
        if self.asked.send(asked).await.is_err() {
            return gone();
        }
        answered.await.unwrap_or_else(|_| gone())
    }
}
