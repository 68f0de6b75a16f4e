//! The file of a store, and the thread that serves it.

use std::fs::{DirBuilder, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use redb::backends::InMemoryBackend;
use redb::{Database, Durability, ReadableDatabase, ReadableTable, Table, TableDefinition};
use tokio::sync::mpsc::Receiver;

use super::message::{Answer, Asked, Question};
use crate::data::shown::Shown;

const VALUES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("values");

/// What an entry counts beside its key and its value, in bytes: that it is there takes room as well.
const ENTRY: u64 = 32;
/// Questions of one transaction.
const BATCH: usize = 256;
/// What one question may read, in bytes.
const MAX_READ: usize = 1 << 20;
/// Keys of one page.
const PAGE: usize = 256;
/// Memory that redb may use for pages, in bytes.
const CACHE: usize = 4 << 20;
/// How long a store that has failed is left alone: to open it anew for each of many questions, as on a
/// full disk, would keep the disk busy.
const PAUSE: Duration = Duration::from_secs(1);

/// The file of a store. After a failure redb refuses all work, for it can't know what is on disk: then it
/// is opened anew.
pub(super) struct File {
    name: String,
    /// None, where the store is in memory.
    path: Option<PathBuf>,
    open: Option<Open>,
    /// Whether it was open before. If it has gone since, no empty one takes its place: that would look
    /// like one that has forgotten everything.
    was_open: bool,
    failed: Option<(Instant, String)>,
}

struct Open {
    database: Database,
    /// Bytes that count.
    used: u64,
}

type Values<'t> = Table<'t, &'static str, &'static [u8]>;

impl File {
    pub fn new(name: &str, path: Option<PathBuf>) -> Self {
        Self { name: name.into(), path, open: None, was_open: false, failed: None }
    }

    /// Answers until nobody can ask any more.
    pub fn serve(mut self, mut questions: Receiver<Asked>) {
        while let Some(first) = questions.blocking_recv() {
            let mut batch = vec![first];
            while batch.len() < BATCH
                && let Ok(next) = questions.try_recv()
            {
                batch.push(next);
            }
            // For who has run out of time nothing is read any more; what was to be written is.
            batch.retain(|asked| !(asked.answer.is_closed() && reads(asked)));
            if batch.is_empty() {
                continue;
            }
            self.answer(batch);
        }
    }

    fn answer(&mut self, batch: Vec<Asked>) {
        let just_failed = self.failed.as_ref().filter(|(at, _)| at.elapsed() < PAUSE);
        let answers = match just_failed {
            Some((_, why)) => Err(why.clone()),
            None => self.try_answer(&batch).inspect_err(|why| {
                self.open = None;
                self.failed = Some((Instant::now(), why.clone()));
                let module = &*self.name;
                tracing::error!(event = "key-value.failed", module, "the store of {module}: {why}");
            }),
        };
        match answers {
            Ok(answers) => {
                for (asked, answer) in batch.into_iter().zip(answers) {
                    // Who has asked may have run out of time.
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

    /// Answers a batch in one transaction. What fails, fails for all of it.
    fn try_answer(&mut self, batch: &[Asked]) -> Result<Vec<Answer>, String> {
        let open = self.open()?;
        let answered = if batch.iter().all(reads) { open.read(batch) } else { open.write(batch) };
        let answered = answered.map_err(|e| format!("can't be used: {e}"))?;
        self.failed = None;
        Ok(answered)
    }

    fn open(&mut self) -> Result<&mut Open, String> {
        let File { open, path, was_open, .. } = self;
        if let Some(open) = open {
            return Ok(open);
        }
        let made = open_file(path.as_deref(), *was_open)
            .and_then(|database| Open::new(database).map_err(|e| e.to_string()));
        let whose = path.as_ref().map(|path| Shown(path).to_string()).unwrap_or_default();
        let made = made.map_err(|e| format!("{whose} can't be opened: {e}"))?;
        *was_open = true;
        Ok(open.insert(made))
    }
}

fn open_file(path: Option<&Path>, was_open: bool) -> Result<Database, String> {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE);
    let Some(path) = path else {
        return builder.create_with_backend(InMemoryBackend::new()).map_err(|e| e.to_string());
    };
    if was_open {
        return builder.open(path).map_err(|e| e.to_string());
    }
    if let Some(folder) = path.parent() {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|e| e.to_string())?;
    }
    // Nobody else is to read what a module keeps.
    let made = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
    made.map_err(|e| e.to_string())?;
    builder.create(path).map_err(|e| e.to_string())
}

impl Open {
    fn new(database: Database) -> Result<Self, redb::Error> {
        let mut transaction = database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        // Makes the table, where there is none.
        transaction.open_table(VALUES)?;
        transaction.commit()?;
        let mut used = 0_u64;
        for entry in database.begin_read()?.open_table(VALUES)?.iter()? {
            let (key, value) = entry?;
            used = used.saturating_add(counts(key.value(), value.value()));
        }
        Ok(Self { database, used })
    }

    fn read(&self, batch: &[Asked]) -> Result<Vec<Answer>, redb::Error> {
        let table = self.database.begin_read()?.open_table(VALUES)?;
        let answers = batch.iter().map(|asked| match &asked.question {
            Question::Get(keys) => get(&table, keys),
            Question::Keys { from } => keys_from(&table, *from),
            Question::Set(_) | Question::Delete(_) | Question::Increment(..) => {
                Ok(Answer::Failed("nothing is written here".into()))
            }
        });
        answers.collect()
    }

    fn write(&mut self, batch: &[Asked]) -> Result<Vec<Answer>, redb::Error> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        let mut used = self.used;
        let answers: Result<Vec<_>, redb::Error> = {
            let mut table = transaction.open_table(VALUES)?;
            let answer = |asked: &Asked| change(&mut table, asked, &mut used);
            batch.iter().map(answer).collect()
        };
        let answers = answers?;
        transaction.commit()?;
        self.used = used;
        Ok(answers)
    }
}

/// What an entry counts.
fn counts(key: &str, value: &[u8]) -> u64 {
    ENTRY + key.len() as u64 + value.len() as u64
}

fn change(table: &mut Values<'_>, asked: &Asked, used: &mut u64) -> Result<Answer, redb::Error> {
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
                return Ok(Answer::Failed("the value is no number, or grows too large".into()));
            };
            let refused = set(table, key, number.to_string().as_bytes(), asked.quota, used)?;
            Ok(refused.unwrap_or(Answer::Number(number)))
        }
    }
}

/// Sets a value, unless it does not fit in.
fn set(
    table: &mut Values<'_>,
    key: &str,
    value: &[u8],
    quota: u64,
    used: &mut u64,
) -> Result<Option<Answer>, redb::Error> {
    let old = table.get(key)?.map_or(0, |old| counts(key, old.value()));
    let now = used.saturating_sub(old).saturating_add(counts(key, value));
    // What makes it smaller is taken even where it is too large still, as after the quota was lowered.
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
            return Ok(Answer::Failed(format!("more than {MAX_READ} bytes at once")));
        }
        values.push(value.map(|value| value.value().to_vec()));
    }
    Ok(Answer::Values(values))
}

fn reads(asked: &Asked) -> bool {
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
