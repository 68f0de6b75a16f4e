//! File of a store, and the thread that serves it.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use redb::{ReadableTable, Table, TableDefinition, TableHandle};
use saegis_store::{Access, Error, Store};
use tokio::sync::mpsc::Receiver;

use super::message::{Answer, Question, QueuedRequest};
use crate::data::shown::Shown;

const VALUES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("values");

/// Overhead that each entry adds to its key and value, in bytes.
const ENTRY: u64 = 32;
/// Maximum number of requests in one transaction.
const BATCH: usize = 256;
/// Maximum size of the values that one request reads, in bytes.
const MAX_READ: usize = 1 << 20;
/// Number of keys of one page.
const PAGE: usize = 256;
/// Maximum memory that redb uses for pages, in bytes.
const CACHE: usize = 4 << 20;
/// File of a store.
pub(super) struct File {
    name: String,
    /// `None` for a store in memory.
    path: Option<PathBuf>,
    store: Store,
    /// Used part of the quota, in bytes; `None` if not yet counted since the file was opened.
    used: Option<u64>,
}

type Values<'t> = Table<'t, &'static str, &'static [u8]>;

impl File {
    pub fn new(name: &str, path: Option<PathBuf>) -> Self {
        let store = path.as_deref().map(|path| Store::new(path, CACHE));
        let store = store.unwrap_or_else(|| Store::in_memory(CACHE));
        Self { name: name.into(), path, store, used: None }
    }

    /// Responds to requests until the last sender is dropped.
    pub fn serve(mut self, mut questions: Receiver<QueuedRequest>) {
        while let Some(first) = questions.blocking_recv() {
            let mut batch = vec![first];
            while batch.len() < BATCH
                && let Ok(next) = questions.try_recv()
            {
                batch.push(next);
            }
            // Reads without a waiting caller are dropped, writes are carried out.
            batch.retain(|asked| !(asked.answer.is_closed() && reads(asked)));
            if batch.is_empty() {
                continue;
            }
            self.answer(batch);
        }
    }

    fn answer(&mut self, batch: Vec<QueuedRequest>) {
        match self.try_answer(&batch) {
            Ok(answers) => {
                for (asked, answer) in batch.into_iter().zip(answers) {
                    // The caller may have timed out.
                    let _ = asked.answer.send(answer);
                }
            }
            Err(why) => {
                for asked in batch {
                    let _ = asked.answer.send(Answer::Failed(why.clone()));
                }
            }
        }
    }

    /// Handles a batch in one transaction. An error fails the whole batch.
    fn try_answer(&mut self, batch: &[QueuedRequest]) -> Result<Vec<Answer>, String> {
        let failed = |error: &Error, what: &str| {
            let module = &*self.name;
            let why = format!("{what}: {error}");
            if !error.is_paused() {
                tracing::error!(event = "key-value.failed", module, "the store of {module}: {why}");
            }
            why
        };
        let Self { path, store, used, .. } = self;
        let access = open(path.as_deref(), store, used).map_err(|error| {
            let path = path.as_deref().map(|path| Shown(path).to_string()).unwrap_or_default();
            failed(&error, &format!("{path} cannot be opened"))
        })?;
        let answered = if batch.iter().all(reads) {
            read(&access, batch)
        } else {
            write(&access, batch, used)
        };
        answered.map_err(|error| {
            if !error.is_paused() {
                store.suspect();
                *used = None;
            }
            failed(&error, "cannot be used")
        })
    }
}

/// Opens the file if necessary, and counts its content.
fn open<'s>(
    path: Option<&Path>,
    store: &'s Store,
    used: &mut Option<u64>,
) -> Result<Access<'s>, Error> {
    if used.is_none()
        && let Some(folder) = path.and_then(Path::parent)
    {
        // If this fails, opening the file fails too, and reports the error.
        let _ = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    }
    let access = store.access()?;
    if access.reopened() {
        *used = None;
    }
    if used.is_none() {
        let counted = count(&access).inspect_err(|_| store.suspect())?;
        *used = Some(counted);
    }
    Ok(access)
}

/// Creates the table if it does not exist, and counts its size.
fn count(access: &Access<'_>) -> Result<u64, Error> {
    let exists = access.begin_read()?.list_tables()?.any(|table| table.name() == VALUES.name());
    if !exists {
        let transaction = access.begin_write()?;
        transaction.open_table(VALUES)?;
        access.commit(transaction)?;
    }
    let mut used = 0_u64;
    for entry in access.begin_read()?.open_table(VALUES)?.iter()? {
        let (key, value) = entry?;
        used = used.saturating_add(counts(key.value(), value.value()));
    }
    Ok(used)
}

fn read(access: &Access<'_>, batch: &[QueuedRequest]) -> Result<Vec<Answer>, Error> {
    let table = access.begin_read()?.open_table(VALUES)?;
    let answers = batch.iter().map(|asked| match &asked.question {
        Question::Get(keys) => get(&table, keys),
        Question::Keys { from } => keys_from(&table, *from),
        Question::Set(_) | Question::Delete(_) | Question::Increment(..) => {
            Ok(Answer::Failed("this request does not write".into()))
        }
    });
    Ok(answers.collect::<Result<_, redb::Error>>()?)
}

fn write(
    access: &Access<'_>,
    batch: &[QueuedRequest],
    used: &mut Option<u64>,
) -> Result<Vec<Answer>, Error> {
    let transaction = access.begin_write()?;
    let mut now = used.unwrap_or_default();
    let answers: Result<Vec<_>, redb::Error> = {
        let mut table = transaction.open_table(VALUES)?;
        let answer = |asked: &QueuedRequest| change(&mut table, asked, &mut now);
        batch.iter().map(answer).collect()
    };
    let answers = answers?;
    access.commit(transaction)?;
    *used = Some(now);
    Ok(answers)
}

/// Returns the size that an entry uses of the quota.
fn counts(key: &str, value: &[u8]) -> u64 {
    ENTRY + key.len() as u64 + value.len() as u64
}

fn change(
    table: &mut Values<'_>,
    asked: &QueuedRequest,
    used: &mut u64,
) -> Result<Answer, redb::Error> {
    match &asked.question {
        Question::Get(keys) => get(table, keys),
        Question::Keys { from } => keys_from(table, *from),
        Question::Set(values) => {
            for (key, value) in values {
                if let Some(refused) = set(table, key, value, asked.quota, used)? {
                    return Ok(refused);
                }
            }
            Ok(Answer::Done)
        }
        Question::Delete(keys) => {
            for key in keys {
                if let Some(old) = table.remove(key.as_str())? {
                    *used = used.saturating_sub(counts(key, old.value()));
                }
            }
            Ok(Answer::Done)
        }
        Question::Increment(key, by) => {
            let old = match table.get(key.as_str())? {
                None => Some(0),
                Some(old) => {
                    std::str::from_utf8(old.value()).ok().and_then(|t| t.parse::<u64>().ok())
                }
            };
            let Some(number) = old.and_then(|old| old.checked_add(*by)) else {
                return Ok(Answer::Failed("the value is not a number or grows too large".into()));
            };
            let refused = set(table, key, number.to_string().as_bytes(), asked.quota, used)?;
            Ok(refused.unwrap_or(Answer::Number(number)))
        }
    }
}

/// Sets a value if it fits into the quota.
fn set(
    table: &mut Values<'_>,
    key: &str,
    value: &[u8],
    quota: u64,
    used: &mut u64,
) -> Result<Option<Answer>, redb::Error> {
    let old = table.get(key)?.map_or(0, |old| counts(key, old.value()));
    let now = used.saturating_sub(old).saturating_add(counts(key, value));
    // A change that reduces the size is always accepted, even above the quota, such as after it was
    // lowered.
    if now > quota && now > *used {
        let why = format!("the quota of {quota} bytes is reached");
        return Ok(Some(Answer::Failed(why)));
    }
    table.insert(key, value)?;
    *used = now;
    Ok(None)
}

fn get(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
    keys: &[String],
) -> Result<Answer, redb::Error> {
    let mut values = Vec::new();
    let mut read = 0_usize;
    for key in keys {
        let value = table.get(key.as_str())?;
        read = read.saturating_add(value.as_ref().map_or(0, |value| value.value().len()));
        if read > MAX_READ {
            return Ok(Answer::Failed(format!("the values exceed {MAX_READ} bytes")));
        }
        values.push(value.map(|value| value.value().to_vec()));
    }
    Ok(Answer::Values(values))
}

fn reads(asked: &QueuedRequest) -> bool {
    matches!(asked.question, Question::Get(_) | Question::Keys { .. })
}

fn keys_from(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
    from: u64,
) -> Result<Answer, redb::Error> {
    let length = table.len()?;
    let mut keys = Vec::new();
    if from >= length {
        return Ok(Answer::Keys { keys, next: None });
    }
    let skip = usize::try_from(from).unwrap_or(usize::MAX);
    for entry in table.iter()?.skip(skip).take(PAGE) {
        keys.push(entry?.0.value().to_string());
    }
    let next = from.saturating_add(keys.len() as u64);
    let next = (next < length && !keys.is_empty()).then_some(next);
    Ok(Answer::Keys { keys, next })
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
