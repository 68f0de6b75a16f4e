//! The limits of a request: time, work, and the authority under which it is executed.
//!
//! A request has one [`RequestBudget`], which all members of a group share. Each lookup in the
//! store takes a step of it, and each commit requires its authority. So no code path can bypass the
//! limits: an exhausted budget ends the work at the next lookup.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use saegis_onem2m::rsc::Rsc;

/// Number of bytes of a stored resource that count as one step.
const BYTES_PER_STEP: usize = 4096;

/// Number of steps after which low-priority work yields the processor.
const STEPS_TO_YIELD: u64 = 16;

/// Number of steps of a first attempt, which suffice for most requests.
const FIRST_TRY_STEPS: u64 = 128;

/// The authority under which requests are executed, such as a security association.
///
/// A commit holds it until it is on disk. After [`end`](Self::end) has returned, no request under it
/// changes anything.
#[derive(Debug, Default)]
pub struct Authority {
    ended: AtomicBool,
    /// Number of commits in progress. A commit never waits for an end: commits of one authority may
    /// wait for each other.
    commits: Mutex<usize>,
    settled: Condvar,
    /// The authority that this one is a part of, and ends with.
    whole: Option<Arc<Authority>>,
}

/// An authority that is held for a commit, with those that it is a part of.
#[derive(Debug)]
pub(crate) struct AuthorityGuard<'a>(&'a Authority);

impl Drop for AuthorityGuard<'_> {
    fn drop(&mut self) {
        self.0.release();
    }
}

impl Authority {
    /// Creates an authority that ends with `whole`, and can end before it.
    #[must_use]
    pub fn part_of(whole: &Arc<Self>) -> Self {
        Self { whole: Some(whole.clone()), ..Self::default() }
    }

    fn commits(&self) -> MutexGuard<'_, usize> {
        self.commits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the authority, and waits for commits in progress. Returns whether this call ended it.
    /// Blocks for the duration of a commit.
    pub fn end(&self) -> bool {
        // First, so that no further commit starts.
        let first = !self.ended.swap(true, Ordering::SeqCst);
        self.settle();
        first
    }

    /// Ends the authority like [`end`](Self::end), unless a commit is in progress. Does not block.
    #[must_use]
    pub fn try_end(&self) -> Option<bool> {
        let commits = self.commits();
        (*commits == 0).then(|| !self.ended.swap(true, Ordering::SeqCst))
    }

    /// Returns whether no commit is in progress. Does not block.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        *self.commits() == 0
    }

    /// Waits for commits in progress. Blocks for the duration of a commit.
    pub fn settle(&self) {
        let settled = self.settled.wait_while(self.commits(), |commits| *commits > 0);
        drop(settled.unwrap_or_else(PoisonError::into_inner));
    }

    /// Returns whether the authority has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst) || self.whole.as_ref().is_some_and(|w| w.has_ended())
    }

    /// Holds the authority for a commit. Does not block.
    fn hold(&self) -> Result<AuthorityGuard<'_>, StopReason> {
        self.enter();
        let held = AuthorityGuard(self);
        // An end that is not seen here waits until the authority is released.
        if self.has_ended() { Err(StopReason::AuthorityEnded) } else { Ok(held) }
    }

    fn enter(&self) {
        *self.commits() += 1;
        if let Some(whole) = &self.whole {
            whole.enter();
        }
    }

    fn release(&self) {
        *self.commits() -= 1;
        self.settled.notify_all();
        if let Some(whole) = &self.whole {
            whole.release();
        }
    }
}

/// The reason why the work on a request stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StopReason {
    /// The caller no longer waits for the response.
    #[error("the request was canceled")]
    Canceled,
    /// The authority of the request has ended.
    #[error("the security association of the originator has ended")]
    AuthorityEnded,
    /// The deadline has passed.
    #[error("the request exceeds its time limit: request less at a time")]
    Deadline,
    /// All steps are used up.
    #[error("the request exceeds its work limit: request less, or fewer levels")]
    Steps,
}

impl StopReason {
    /// Returns the Response Status Code, for a caller that still waits.
    pub(crate) fn rsc(self) -> Rsc {
        match self {
            Self::Canceled | Self::Deadline | Self::Steps => Rsc::NotAcceptable,
            Self::AuthorityEnded => Rsc::OriginatorNotAuthenticated,
        }
    }
}

/// The budget of one request. Clones share it.
#[derive(Debug, Clone)]
pub struct RequestBudget {
    deadline: Option<Instant>,
    left: Arc<AtomicU64>,
    /// Additional steps for the resources of other originators on a walk.
    foreign: Arc<AtomicU64>,
    is_first_try: bool,
    low_priority: Arc<AtomicBool>,
    /// Whether others wait for this work to end, whoever it is for.
    blocks_others: bool,
    /// Time for which the work has had the writers' lock, in nanoseconds.
    writing: Arc<AtomicU64>,
    canceled: Arc<AtomicBool>,
    authority: Arc<Authority>,
}

impl RequestBudget {
    /// Creates the budget of a request with a deadline and a number of steps, under an authority.
    ///
    /// A step is a lookup in the store. A resource of more than 4 KiB takes one more step for each
    /// further 4 KiB. A discovery has half as many additional steps for resources of other
    /// originators that it passes.
    #[must_use]
    pub fn new(authority: Arc<Authority>, deadline: Instant, steps: u64) -> Self {
        Self {
            deadline: Some(deadline),
            left: Arc::new(AtomicU64::new(steps)),
            foreign: Arc::new(AtomicU64::new(steps / 2)),
            is_first_try: false,
            low_priority: Arc::default(),
            blocks_others: false,
            writing: Arc::default(),
            canceled: Arc::default(),
            authority,
        }
    }

    /// Creates a budget without limits, for internal work.
    #[must_use]
    pub fn unlimited() -> Self {
        Self {
            deadline: None,
            left: Arc::new(AtomicU64::new(u64::MAX)),
            foreign: Arc::new(AtomicU64::new(u64::MAX)),
            is_first_try: false,
            low_priority: Arc::default(),
            blocks_others: false,
            writing: Arc::default(),
            canceled: Arc::default(),
            authority: Arc::default(),
        }
    }

    /// Returns the same budget with another deadline, for a request that had to wait.
    #[must_use]
    pub fn with_deadline(&self, deadline: Instant) -> Self {
        Self { deadline: Some(deadline), ..self.clone() }
    }

    /// Returns a budget for a first attempt, with as few steps as most requests need. It stops
    /// together with this budget, but does not consume its steps.
    #[must_use]
    pub fn first_try(&self) -> Self {
        let foreign = Arc::new(AtomicU64::new(self.foreign_left()));
        Self { foreign, is_first_try: true, ..self.with_steps(FIRST_TRY_STEPS) }
    }

    /// Returns whether no steps are left.
    #[must_use]
    pub fn is_used_up(&self) -> bool {
        self.left() == 0
    }

    /// Returns a budget with at most `steps` of the remaining steps, which are not subtracted from
    /// this budget. It stops together with this budget.
    pub(crate) fn with_steps(&self, steps: u64) -> Self {
        Self { left: Arc::new(AtomicU64::new(steps.min(self.left()))), ..self.clone() }
    }

    /// Returns the same budget without a limit on steps, for work of a fixed size that has a low
    /// priority.
    pub(crate) fn unmetered(&self) -> Self {
        Self { left: Arc::new(AtomicU64::new(u64::MAX)), ..self.clone() }
    }

    /// Gives other writes priority over this work.
    pub fn lower_priority(&self) {
        self.low_priority.store(true, Ordering::Relaxed);
    }

    /// Returns whether other writes have priority over this work.
    pub(crate) fn is_low_priority(&self) -> bool {
        self.low_priority.load(Ordering::Relaxed)
    }

    /// Returns the same budget for the part of the work that has the writers' lock. It does not yield the
    /// processor, since others wait for the lock.
    pub(crate) fn while_writing(&self) -> Self {
        Self { blocks_others: true, ..self.clone() }
    }

    /// Returns for how long the work has kept other writers waiting so far: from when it got the
    /// writers' lock, without its own waits.
    #[must_use]
    pub fn writing_time(&self) -> Duration {
        Duration::from_nanos(self.writing.load(Ordering::Relaxed))
    }

    /// Adds time for which the work had the writers' lock.
    pub(crate) fn add_writing_time(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.writing.fetch_add(nanos, Ordering::Relaxed);
    }

    /// Returns whether the work yields the processor now and then.
    fn yields(&self) -> bool {
        self.is_low_priority() && !self.blocks_others
    }

    /// Cancels the work, because the caller no longer waits.
    pub fn cancel(&self) {
        self.canceled.store(true, Ordering::SeqCst);
    }

    /// Returns a guard that cancels the work on drop, for example with a dropped future.
    pub fn cancel_on_drop(&self) -> CancelOnDrop {
        CancelOnDrop(self.canceled.clone())
    }

    /// Returns the deadline, if any.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Returns the remaining steps.
    pub(crate) fn left(&self) -> u64 {
        self.left.load(Ordering::Relaxed)
    }

    /// Returns the remaining steps for resources of other originators.
    pub(crate) fn foreign_left(&self) -> u64 {
        self.foreign.load(Ordering::Relaxed)
    }

    /// Charges `steps` on resources of other originators to their own budget, `weight` times each,
    /// as far as that suffices, and refunds them here.
    pub(crate) fn charge_foreign(&self, steps: u64, weight: u64) {
        let cost = steps.saturating_mul(weight);
        let take = |left: u64| Some(left.saturating_sub(cost));
        let before = match self.foreign.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) {
            Ok(before) | Err(before) => before,
        };
        // A first attempt stays short, independently of the resources that it reads.
        if !self.is_first_try {
            let give_back = |left: u64| Some(left.saturating_add(steps.min(before)));
            let _ = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, give_back);
        }
    }

    /// Checks whether the work may continue.
    ///
    /// # Errors
    /// Returns the reason why it must stop.
    pub fn check(&self) -> Result<(), StopReason> {
        if self.canceled.load(Ordering::SeqCst) {
            return Err(StopReason::Canceled);
        }
        if self.authority.has_ended() {
            return Err(StopReason::AuthorityEnded);
        }
        match self.deadline {
            Some(deadline) if Instant::now() >= deadline => Err(StopReason::Deadline),
            _ => Ok(()),
        }
    }

    /// Takes one step, and additional ones for the size of a resource.
    pub(crate) fn step(&self, bytes: usize) -> Result<(), StopReason> {
        self.check()?;
        // The kernel runs a thread for several milliseconds, even with a low priority.
        if self.yields() && self.left().is_multiple_of(STEPS_TO_YIELD) {
            std::thread::yield_now();
        }
        let cost = u64::try_from(1 + bytes / BYTES_PER_STEP).unwrap_or(u64::MAX);
        let take = |left: u64| left.checked_sub(cost);
        match self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) {
            Ok(_) => Ok(()),
            Err(_) => {
                // The work must end: a smaller resource must not succeed later.
                self.left.store(0, Ordering::Relaxed);
                Err(StopReason::Steps)
            }
        }
    }

    /// Holds the authority for a commit.
    pub(crate) fn hold(&self) -> Result<AuthorityGuard<'_>, StopReason> {
        let held = self.authority.hold()?;
        self.check()?;
        Ok(held)
    }
}

/// A guard that cancels the work on a request on drop.
#[derive(Debug)]
#[must_use]
pub struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests;
