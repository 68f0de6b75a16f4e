//! Group commit: successive writers share one flush to disk.
//!
//! A writer with others waiting behind it commits without a flush, releases the writers' lock, and
//! waits. The last writer of the group flushes for all. So nothing is unflushed while no writer has
//! or awaits the lock, and a lone writer flushes its own commit immediately.
//!
//! - Readers see a commit only after its flush.
//! - A writer returns only after the flush of everything that it saw, even if it is refused.
//! - A failed flush fails all writers of the group, and the file is reopened.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use redb::WriteTransaction;
use saegis_store::{Access, Store};

use crate::store::error::StoreError;
use crate::store::file;
use crate::store::ticket_lock::{TicketGuard, TicketLock};

/// Maximum number of commits that share a flush.
const MAX_COMMITS: usize = 16;

/// The writers of a store.
#[derive(Debug, Default)]
pub(super) struct Writers {
    /// The lock of writers, which get it in the order of their arrival.
    lock: TicketLock,
    /// The unflushed commits. Only the writer that has the lock uses it.
    group: Mutex<Option<Group>>,
}

/// Commits that the next flush covers.
#[derive(Debug)]
struct Group {
    commits: usize,
    /// Whether all of them have a low priority.
    low_priority: bool,
    /// Number of the opening of the file that the commits belong to.
    opened: u64,
    flush: Arc<Flush>,
}

/// A flush that several writers wait for.
#[derive(Debug, Default)]
pub(super) struct Flush {
    outcome: Mutex<Option<Result<(), String>>>,
    done: Condvar,
}

impl Writers {
    fn group(&self) -> MutexGuard<'_, Option<Group>> {
        self.group.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Flush {
    fn outcome(&self) -> MutexGuard<'_, Option<Result<(), String>>> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the flush.
    pub(super) fn wait(&self) -> Result<(), StoreError> {
        let mut outcome = self.outcome();
        loop {
            match &*outcome {
                Some(outcome) => return outcome.clone().map_err(StoreError::Flush),
                None => outcome = self.done.wait(outcome).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

impl Group {
    fn end(self, outcome: Result<(), String>) {
        *self.flush.outcome() = Some(outcome);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // After a panic, the state of the commits is unknown.
        self.flush.outcome().get_or_insert_with(|| Err("the flush did not complete".into()));
        self.flush.done.notify_all();
    }
}

/// The turn of a writer. The end of the turn flushes the unflushed commits, unless the next writer
/// does.
pub(super) struct WriteTurn<'s> {
    writers: &'s Writers,
    file: &'s Store,
    turn: TicketGuard<'s>,
    low_priority: bool,
}

impl<'s> WriteTurn<'s> {
    /// Waits for a turn.
    pub(super) fn wait(writers: &'s Writers, file: &'s Store, low_priority: bool) -> Self {
        Self { writers, file, turn: writers.lock.wait(low_priority), low_priority }
    }

    /// Commits a transaction, and flushes it unless a later writer does.
    pub(super) fn commit(
        &self,
        access: &Access<'_>,
        transaction: WriteTransaction,
    ) -> Result<(), StoreError> {
        self.join(access);
        if !self.ends_group() {
            return Ok(access.commit_unflushed(transaction)?);
        }
        let group = self.writers.group().take();
        let outcome = access.commit(transaction);
        if let Some(group) = group {
            group.end(outcome.as_ref().map_err(ToString::to_string).copied());
        }
        Ok(outcome?)
    }

    /// Adds a commit to the group.
    fn join(&self, access: &Access<'_>) {
        let mut group = self.writers.group();
        let opened = access.opened();
        // Commits before the file was reopened may be lost. Those writers fail.
        group.take_if(|group| group.opened != opened);
        let group = group.get_or_insert_with(|| Group {
            commits: 0,
            low_priority: true,
            opened,
            flush: Arc::default(),
        });
        group.commits += 1;
        group.low_priority &= self.low_priority;
    }

    /// Returns whether the group is flushed in this turn: no one waits, the group is complete, or
    /// others would wait for a writer that gives way to them.
    fn ends_group(&self) -> bool {
        let group = self.writers.group();
        let (commits, low_priority) =
            group.as_ref().map_or((0, true), |g| (g.commits, g.low_priority));
        commits >= MAX_COMMITS || self.turn.next().is_none_or(|next| next && !low_priority)
    }

    /// Ends the turn. Returns the flush of all commits that this writer saw, unless they are
    /// flushed.
    pub(super) fn end(self) -> Option<Arc<Flush>> {
        self.writers.group().as_ref().map(|group| group.flush.clone())
    }

    fn flush(&self, opened: u64) -> Result<(), StoreError> {
        let access = file::access(self.file)?;
        if access.opened() != opened {
            return Err(StoreError::Flush("the store was reopened".into()));
        }
        Ok(access.flush()?)
    }
}

impl Drop for WriteTurn<'_> {
    fn drop(&mut self) {
        if !self.ends_group() {
            return;
        }
        let group = self.writers.group().take();
        if let Some(group) = group {
            let outcome = self.flush(group.opened).map_err(|error| error.to_string());
            group.end(outcome);
        }
    }
}

#[cfg(test)]
mod tests;
