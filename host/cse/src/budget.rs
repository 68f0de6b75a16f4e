//! What one request may use: time, work, and the authority that it is carried out by.
//!
//! A request has one [`RequestBudget`], however many members of a group it goes to. Each look-up in
//! the store takes a step of it, and each commit is made under its authority. So nothing that a
//! request does can forget to ask: an exhausted budget ends the work at the next look-up.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, TryLockError};
use std::time::Instant;

use saegis_onem2m::rsc::Rsc;

/// Bytes of a stored resource that count as one step.
const BYTES_PER_STEP: usize = 4096;

/// Steps after which work that gives way yields the processor.
const STEPS_TO_YIELD: u64 = 16;

/// Steps of a first try: most requests need fewer.
const FIRST_TRY_STEPS: u64 = 128;

/// The authority that requests are carried out by, such as that of a security association.
///
/// A commit holds it. After [`end`](Self::end) has returned, no request under it changes anything.
#[derive(Debug, Default)]
pub struct Authority {
    ended: AtomicBool,
    commits: RwLock<()>,
}

impl Authority {
    /// Ends the authority, and waits for a commit that is under way. Returns whether this call was
    /// the one that ended it. Blocks for as long as a commit takes.
    pub fn end(&self) -> bool {
        // First, so that no further commit begins.
        let first = !self.ended.swap(true, Ordering::SeqCst);
        self.settle();
        first
    }

    /// Ends the authority as [`end`](Self::end) does, if no commit is under way. Does not block.
    #[must_use]
    pub fn try_end(&self) -> Option<bool> {
        let _held = match self.commits.try_write() {
            Ok(held) => held,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        Some(!self.ended.swap(true, Ordering::SeqCst))
    }

    /// Waits for a commit that is under way. Blocks for as long as a commit takes.
    pub fn settle(&self) {
        drop(self.commits.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// Whether the authority has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    /// Holds the authority for a commit.
    fn hold(&self) -> Result<RwLockReadGuard<'_, ()>, Stop> {
        let held = self.commits.read().unwrap_or_else(PoisonError::into_inner);
        if self.has_ended() { Err(Stop::AuthorityEnded) } else { Ok(held) }
    }
}

/// The reason why the work on a request stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    /// Nobody waits for the answer.
    #[error("the request was canceled")]
    Canceled,
    /// The originator has lost the authority that the request is carried out by.
    #[error("the security association of the originator has ended")]
    AuthorityEnded,
    /// The deadline has passed.
    #[error("the request takes longer than a request may: ask for less at a time")]
    Deadline,
    /// All steps are used up.
    #[error("the request takes more work than a request may: ask for less, or for fewer levels")]
    Steps,
}

impl Stop {
    /// Returns the code to answer with, if there is somebody to answer.
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
    /// Further steps, for the resources of others on a walk.
    foreign: Arc<AtomicU64>,
    is_first_try: bool,
    gives_way: Arc<AtomicBool>,
    canceled: Arc<AtomicBool>,
    authority: Arc<Authority>,
}

impl RequestBudget {
    /// Makes the budget of a request that is to be done by `deadline` and in `steps`, under an
    /// authority. A step is a look-up in the store; a resource of more than 4 KiB takes one more for
    /// each further 4 KiB. Half as many more are for the resources of others that a discovery passes.
    #[must_use]
    pub fn new(authority: Arc<Authority>, deadline: Instant, steps: u64) -> Self {
        Self {
            deadline: Some(deadline),
            left: Arc::new(AtomicU64::new(steps)),
            foreign: Arc::new(AtomicU64::new(steps / 2)),
            is_first_try: false,
            gives_way: Arc::default(),
            canceled: Arc::default(),
            authority,
        }
    }

    /// Makes a budget without bounds, for work that no originator asks for.
    #[must_use]
    pub fn unlimited() -> Self {
        Self {
            deadline: None,
            left: Arc::new(AtomicU64::new(u64::MAX)),
            foreign: Arc::new(AtomicU64::new(u64::MAX)),
            is_first_try: false,
            gives_way: Arc::default(),
            canceled: Arc::default(),
            authority: Arc::default(),
        }
    }

    /// Returns the same budget with another deadline, for a request that has waited for others.
    #[must_use]
    pub fn with_deadline(&self, deadline: Instant) -> Self {
        Self { deadline: Some(deadline), ..self.clone() }
    }

    /// Returns a budget for a first try of the request, in as few steps as most requests need. It
    /// stops with this one, and takes nothing from it.
    #[must_use]
    pub fn first_try(&self) -> Self {
        let foreign = Arc::new(AtomicU64::new(self.foreign_left()));
        Self { foreign, is_first_try: true, ..self.with_steps(FIRST_TRY_STEPS) }
    }

    /// Whether no step is left.
    #[must_use]
    pub fn is_used_up(&self) -> bool {
        self.left() == 0
    }

    /// Returns a budget of at most so many of the steps that are left, which are not taken from this
    /// one. It stops with this one.
    pub(crate) fn with_steps(&self, steps: u64) -> Self {
        Self { left: Arc::new(AtomicU64::new(steps.min(self.left()))), ..self.clone() }
    }

    /// Returns the same budget without a bound on its steps, for work that is as large as it is and
    /// gives way to others.
    pub(crate) fn unmetered(&self) -> Self {
        Self { left: Arc::new(AtomicU64::new(u64::MAX)), ..self.clone() }
    }

    /// Lets others write before this work.
    pub fn give_way(&self) {
        self.gives_way.store(true, Ordering::Relaxed);
    }

    /// Returns whether others write before this work.
    pub(crate) fn gives_way(&self) -> bool {
        self.gives_way.load(Ordering::Relaxed)
    }

    /// Stops the work: nobody waits for the answer.
    pub fn cancel(&self) {
        self.canceled.store(true, Ordering::SeqCst);
    }

    /// Returns a guard that stops the work when it is dropped, as with a future that is not polled
    /// to its end.
    pub fn cancel_on_drop(&self) -> CancelOnDrop {
        CancelOnDrop(self.canceled.clone())
    }

    /// Returns the deadline, if there is one.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Returns the steps that are left.
    pub(crate) fn left(&self) -> u64 {
        self.left.load(Ordering::Relaxed)
    }

    /// Returns the steps that are left for the resources of others.
    pub(crate) fn foreign_left(&self) -> u64 {
        self.foreign.load(Ordering::Relaxed)
    }

    /// Takes `steps` that were made for the resources of others from the steps for those instead,
    /// each `weight` times, as far as they go.
    pub(crate) fn charge_foreign(&self, steps: u64, weight: u64) {
        let cost = steps.saturating_mul(weight);
        let take = |left: u64| Some(left.saturating_sub(cost));
        let before = match self.foreign.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) {
            Ok(before) | Err(before) => before,
        };
        // A first try is short, whatever it looks at.
        if !self.is_first_try {
            let give_back = |left: u64| Some(left.saturating_add(steps.min(before)));
            let _ = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, give_back);
        }
    }

    /// Checks that the work may go on.
    ///
    /// # Errors
    /// The reason why it may not.
    pub fn check(&self) -> Result<(), Stop> {
        if self.canceled.load(Ordering::SeqCst) {
            return Err(Stop::Canceled);
        }
        if self.authority.has_ended() {
            return Err(Stop::AuthorityEnded);
        }
        match self.deadline {
            Some(deadline) if Instant::now() >= deadline => Err(Stop::Deadline),
            _ => Ok(()),
        }
    }

    /// Takes one step, and more for a resource with so many bytes.
    pub(crate) fn step(&self, bytes: usize) -> Result<(), Stop> {
        self.check()?;
        // The kernel lets a thread run for milliseconds, also one with a low priority.
        if self.gives_way() && self.left().is_multiple_of(STEPS_TO_YIELD) {
            std::thread::yield_now();
        }
        let cost = u64::try_from(1 + bytes / BYTES_PER_STEP).unwrap_or(u64::MAX);
        let take = |left: u64| left.checked_sub(cost);
        match self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) {
            Ok(_) => Ok(()),
            Err(_) => {
                // Nothing smaller fits later either: the work has ended.
                self.left.store(0, Ordering::Relaxed);
                Err(Stop::Steps)
            }
        }
    }

    /// Holds the authority for a commit.
    pub(crate) fn hold(&self) -> Result<RwLockReadGuard<'_, ()>, Stop> {
        let held = self.authority.hold()?;
        self.check()?;
        Ok(held)
    }
}

/// Stops the work on a request when it is dropped.
#[derive(Debug)]
#[must_use]
pub struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::time::Duration;

    fn budget(steps: u64) -> RequestBudget {
        let deadline = Instant::now() + Duration::from_secs(600);
        RequestBudget::new(Arc::default(), deadline, steps)
    }

    #[test]
    fn steps_are_counted_for_all_clones() {
        let budget = budget(4);
        budget.step(0).unwrap();
        budget.clone().step(BYTES_PER_STEP).unwrap();
        assert_eq!(budget.left(), 1);
        assert_eq!(budget.step(BYTES_PER_STEP), Err(Stop::Steps));
        assert_eq!(budget.step(0), Err(Stop::Steps), "what is refused ends the work");
    }

    #[test]
    fn partial_budget_is_limited_by_whole() {
        let whole = budget(2);
        let part = whole.with_steps(100);
        part.step(0).unwrap();
        part.step(0).unwrap();
        assert_eq!(part.step(0), Err(Stop::Steps));
        whole.step(0).unwrap();
        let part = whole.with_steps(1);
        whole.cancel();
        assert_eq!(part.check(), Err(Stop::Canceled));
    }

    #[test]
    fn foreign_resources_have_separate_steps() {
        let budget = budget(10);
        for _ in 0..3 {
            budget.step(0).unwrap();
        }
        budget.charge_foreign(3, 1);
        assert_eq!((budget.left(), budget.foreign_left()), (10, 2));
        for _ in 0..4 {
            budget.step(0).unwrap();
        }
        budget.charge_foreign(4, 10);
        assert_eq!((budget.left(), budget.foreign_left()), (8, 0), "there were two");
        budget.step(0).unwrap();
        budget.charge_foreign(1, 1);
        assert_eq!(budget.left(), 7);
    }

    #[test]
    fn first_try_has_few_steps() {
        let whole = budget(1000);
        let first = whole.first_try();
        for _ in 0..FIRST_TRY_STEPS {
            assert!(!first.is_used_up());
            first.step(0).unwrap();
            first.charge_foreign(1, 1);
        }
        assert_eq!(first.step(0), Err(Stop::Steps));
        assert!(first.is_used_up());
        assert_eq!((whole.left(), whole.foreign_left()), (1000, 500));
        whole.cancel();
        assert_eq!(first.check(), Err(Stop::Canceled));
    }

    #[test]
    fn work_stops_for_each_reason() {
        let late = budget(1).with_deadline(Instant::now());
        assert_eq!(late.check(), Err(Stop::Deadline));
        let dropped = budget(1);
        drop(dropped.cancel_on_drop());
        assert_eq!(dropped.check(), Err(Stop::Canceled));
        let authority = Arc::new(Authority::default());
        let ended = RequestBudget::new(authority.clone(), Instant::now(), 1)
            .with_deadline(Instant::now() + Duration::from_secs(600));
        ended.check().unwrap();
        assert!(authority.end());
        assert!(!authority.end(), "it ends once");
        assert_eq!(authority.try_end(), Some(false));
        assert_eq!(ended.check(), Err(Stop::AuthorityEnded));
        assert_eq!(ended.hold().map(drop), Err(Stop::AuthorityEnded));
    }

    #[test]
    fn end_waits_for_commit_and_prevents_next() {
        let authority = Arc::new(Authority::default());
        let budget = budget(1);
        let budget = RequestBudget { authority: authority.clone(), ..budget };
        let held = budget.hold().unwrap();
        assert_eq!(authority.try_end(), None);
        budget.check().unwrap();
        let (ended, ends) = mpsc::channel();
        let ending = {
            let authority = authority.clone();
            std::thread::spawn(move || {
                let _ = ended.send(authority.end());
            })
        };
        while !authority.has_ended() {
            std::thread::yield_now();
        }
        assert_eq!(budget.check(), Err(Stop::AuthorityEnded));
        assert!(ends.recv_timeout(Duration::from_millis(50)).is_err(), "it waits for the commit");
        drop(held);
        assert_eq!(ends.recv_timeout(Duration::from_secs(60)), Ok(true));
        ending.join().unwrap();
    }
}
