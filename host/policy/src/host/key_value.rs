//! `wasi:keyvalue`: a small durable store for each module that is granted one.
//!
//! The crate of the runtime forgets everything with the call, so only its interface is used. A store is
//! one redb file with a thread of its own, so that a slow disk delays only the module that waits for it.
//! The thread takes all waiting questions into one transaction, and answers them once it is on disk.

mod file;
mod message;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use file::File;
use message::Asked;
pub(crate) use message::{Answer, Question};
use tokio::sync::{mpsc, oneshot};

/// Questions that wait for a store's thread; who comes then waits for a place.
const MAX_QUEUED: usize = 1024;

/// The stores of all modules. Each is opened when it is first used: whoever only loads modules, as
/// `saegis check` does beside a running gateway, touches none.
pub struct Stores {
    /// The folder of the files; `None` for stores in memory.
    folder: Option<PathBuf>,
    open: Mutex<BTreeMap<String, mpsc::Sender<Asked>>>,
}

/// The store of one module.
pub(crate) struct Store {
    asked: mpsc::Sender<Asked>,
    quota: u64,
}

impl Stores {
    /// Stores in files of a folder, `NAME.redb`.
    #[must_use]
    pub fn in_folder(folder: PathBuf) -> Self {
        Self { folder: Some(folder), open: Mutex::default() }
    }

    /// Stores in memory, for whoever tries modules.
    #[must_use]
    pub fn in_memory() -> Self {
        Self { folder: None, open: Mutex::default() }
    }

    /// The store of that name, in which so much fits.
    pub(crate) fn of(&self, name: &str, quota: u64) -> Arc<Store> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        // A thread that has ended, as by a damaged file, is started again with the next generation.
        if let Some(asked) = open.get(name).filter(|asked| !asked.is_closed()) {
            return Arc::new(Store { asked: asked.clone(), quota });
        }
        let (asked, questions) = mpsc::channel(MAX_QUEUED);
        let path = self.folder.as_ref().map(|folder| folder.join(format!("{name}.redb")));
        let file = File::new(name, path);
        let thread = std::thread::Builder::new().name("key-value".into());
        // Where no thread can be had the questions go unanswered, which is told to who asks.
        if let Err(e) = thread.spawn(move || file.serve(questions)) {
            tracing::error!(event = "key-value.failed", module = name, "no thread: {e}");
        }
        open.insert(name.into(), asked.clone());
        Arc::new(Store { asked, quota })
    }
}

impl Store {
    /// Whether it is the same store, in which the same fits.
    pub fn is_same(&self, other: &Self) -> bool {
        self.asked.same_channel(&other.asked) && self.quota == other.quota
    }

    /// Puts values into it that are there from the start.
    pub fn fill(&self, values: BTreeMap<String, String>) {
        let values = values.into_iter().map(|(key, value)| (key, value.into_bytes())).collect();
        let (question, (answer, _)) = (Question::Set(values), oneshot::channel());
        // Nobody has asked before, so there is room.
        let _ = self.asked.try_send(Asked { question, quota: self.quota, answer });
    }

    /// Asks it.
    pub async fn ask(&self, question: Question) -> Answer {
        let gone = || Answer::Failed("the store has failed".into());
        let (answer, answered) = oneshot::channel();
        let asked = Asked { question, quota: self.quota, answer };
        if self.asked.send(asked).await.is_err() {
            return gone();
        }
        answered.await.unwrap_or_else(|_| gone())
    }
}
