//! `wasi:keyvalue`: a small durable store for each module that is granted one.
//!
//! The interface is WASI's, and what is behind it ours: the crate that comes with the runtime forgets
//! everything with the call. A store is one redb file, served by a thread of its own, so that a slow disk
//! holds up the module that waits for it and nobody else. What the thread finds waiting is one
//! transaction: it is on disk before any of it is answered.

mod file;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, oneshot};
use wasmtime::component::Resource;

use crate::host::bindings::wasi::keyvalue::store::{Error, KeyResponse};
use crate::host::bindings::wasi::keyvalue::{atomics, batch, store};
use crate::host::call::Call;
use file::File;

/// Questions that wait for a store's thread; who comes then waits for a place.
const MOST_WAITING: usize = 1024;
/// Longest key, in bytes.
const MAX_KEY: usize = 256;
/// Keys of one question.
const MOST_KEYS: usize = 256;
/// Handles that a call may have at a time.
const MOST_BUCKETS: usize = 16;

/// What a store's thread is asked. Keys and values are of the lengths that they may have.
pub(crate) enum Question {
    Get(Vec<String>),
    Set(Vec<(String, Vec<u8>)>),
    Delete(Vec<String>),
    Increment(String, u64),
    Keys { from: u64 },
}

/// What it answers.
pub(crate) enum Answer {
    Values(Vec<Option<Vec<u8>>>),
    Done,
    Number(u64),
    Keys { keys: Vec<String>, next: Option<u64> },
    Failed(String),
}

/// A question on its way to a store's thread.
pub(crate) struct Asked {
    question: Question,
    /// What fits in, in bytes.
    quota: u64,
    answer: oneshot::Sender<Answer>,
}

/// The stores of all modules. Each is opened when it is first used: whoever only loads modules, as
/// `saegis check` does beside a running gateway, touches none.
pub struct Stores {
    /// Where the files are; nowhere, and stores are in memory.
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
        let (asked, questions) = mpsc::channel(MOST_WAITING);
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

/// What stands behind a `bucket` of `wasi:keyvalue`: the module's one store.
pub struct Bucket;

fn other<T>(what: impl Into<String>) -> Result<T, Error> {
    Err(Error::Other(what.into()))
}

impl Question {
    /// Its keys are so many and so long as they may be.
    fn check(&self) -> Result<(), Error> {
        let (number, longest) = match self {
            Self::Get(keys) | Self::Delete(keys) => {
                (keys.len(), keys.iter().map(String::len).max())
            }
            Self::Set(values) => (values.len(), values.iter().map(|(key, _)| key.len()).max()),
            Self::Increment(key, _) => (1, Some(key.len())),
            Self::Keys { .. } => (0, None),
        };
        if number > MOST_KEYS {
            return other(format!("more than {MOST_KEYS} keys at once"));
        }
        if longest.is_some_and(|length| length > MAX_KEY) {
            return other(format!("a key is longer than {MAX_KEY} bytes"));
        }
        Ok(())
    }
}

impl Call {
    /// Asks the module's store. Who is started only to see whether it can be has none.
    async fn ask_store(&mut self, question: Question) -> Result<Answer, Error> {
        question.check()?;
        let Some(store) = self.io().store.clone() else { return Err(Error::AccessDenied) };
        match store.ask(question).await {
            Answer::Failed(why) => other(why),
            answer => Ok(answer),
        }
    }

    async fn get_values(&mut self, keys: Vec<String>) -> Result<Vec<Option<Vec<u8>>>, Error> {
        match self.ask_store(Question::Get(keys)).await? {
            Answer::Values(values) => Ok(values),
            _ => other("the store has failed"),
        }
    }

    async fn set_values(&mut self, values: Vec<(String, Vec<u8>)>) -> Result<(), Error> {
        self.ask_store(Question::Set(values)).await.map(|_| ())
    }

    async fn delete_values(&mut self, keys: Vec<String>) -> Result<(), Error> {
        self.ask_store(Question::Delete(keys)).await.map(|_| ())
    }
}

type Outcome<T> = wasmtime::Result<Result<T, Error>>;

impl store::Host for Call {
    async fn open(&mut self, identifier: String) -> Outcome<Resource<Bucket>> {
        if !identifier.is_empty() && identifier != "default" {
            return Ok(Err(Error::NoSuchStore));
        }
        if self.buckets >= MOST_BUCKETS {
            return Ok(other(format!("more than {MOST_BUCKETS} handles of the store")));
        }
        self.buckets += 1;
        Ok(Ok(Resource::new_own(0)))
    }
}

impl store::HostBucket for Call {
    async fn get(&mut self, _: Resource<Bucket>, key: String) -> Outcome<Option<Vec<u8>>> {
        Ok(self.get_values(vec![key]).await.map(|mut values| values.pop().flatten()))
    }

    async fn set(&mut self, _: Resource<Bucket>, key: String, value: Vec<u8>) -> Outcome<()> {
        Ok(self.set_values(vec![(key, value)]).await)
    }

    async fn delete(&mut self, _: Resource<Bucket>, key: String) -> Outcome<()> {
        Ok(self.delete_values(vec![key]).await)
    }

    async fn exists(&mut self, _: Resource<Bucket>, key: String) -> Outcome<bool> {
        Ok(self.get_values(vec![key]).await.map(|values| values.iter().any(Option::is_some)))
    }

    async fn list_keys(
        &mut self,
        _: Resource<Bucket>,
        cursor: Option<u64>,
    ) -> Outcome<KeyResponse> {
        let question = Question::Keys { from: cursor.unwrap_or(0) };
        Ok(match self.ask_store(question).await {
            Ok(Answer::Keys { keys, next }) => Ok(KeyResponse { keys, cursor: next }),
            Ok(_) => other("the store has failed"),
            Err(error) => Err(error),
        })
    }

    async fn drop(&mut self, _: Resource<Bucket>) -> wasmtime::Result<()> {
        self.buckets = self.buckets.saturating_sub(1);
        Ok(())
    }
}

impl atomics::Host for Call {
    async fn increment(&mut self, _: Resource<Bucket>, key: String, delta: u64) -> Outcome<u64> {
        Ok(match self.ask_store(Question::Increment(key, delta)).await {
            Ok(Answer::Number(number)) => Ok(number),
            Ok(_) => other("the store has failed"),
            Err(error) => Err(error),
        })
    }
}

impl batch::Host for Call {
    async fn get_many(
        &mut self,
        _: Resource<Bucket>,
        keys: Vec<String>,
    ) -> Outcome<Vec<Option<(String, Vec<u8>)>>> {
        let values = self.get_values(keys.clone()).await;
        Ok(values.map(|values| {
            let pairs = keys.into_iter().zip(values);
            pairs.map(|(key, value)| Some((key, value?))).collect()
        }))
    }

    async fn set_many(
        &mut self,
        _: Resource<Bucket>,
        values: Vec<(String, Vec<u8>)>,
    ) -> Outcome<()> {
        Ok(self.set_values(values).await)
    }

    async fn delete_many(&mut self, _: Resource<Bucket>, keys: Vec<String>) -> Outcome<()> {
        Ok(self.delete_values(keys).await)
    }
}
