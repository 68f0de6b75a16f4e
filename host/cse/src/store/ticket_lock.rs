//! A fair lock with two lanes. Waiters get it in the order of their arrival. Waiters with a low
//! priority get it if no others wait, and otherwise after [`MAX_PASSED`] turns.
//!
//! Without fairness, a thread that writes repeatedly would take the lock again before the waiting
//! threads have woken up.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Maximum number of turns of other waiters while one with a low priority waits.
const MAX_PASSED: u32 = 8;

/// The lock.
#[derive(Debug, Default)]
pub(crate) struct TicketLock {
    state: Mutex<State>,
    next: Condvar,
}

#[derive(Debug, Default)]
struct State {
    locked: bool,
    usual: Lane,
    giving_way: Lane,
    /// Number of turns of other waiters since one with a low priority waits.
    passed: u32,
}

#[derive(Debug, Default)]
struct Lane {
    /// Number of the next arrival.
    coming: u64,
    /// Number of the next turn.
    served: u64,
}

impl Lane {
    fn is_empty(&self) -> bool {
        self.coming == self.served
    }
}

/// A turn, until it is dropped.
#[derive(Debug)]
#[must_use]
pub(crate) struct Turn<'q>(&'q TicketLock);

impl State {
    fn lane(&mut self, gives_way: bool) -> &mut Lane {
        if gives_way { &mut self.giving_way } else { &mut self.usual }
    }

    /// Returns whether the lock is free and this lane has the next turn.
    fn is_next(&self, gives_way: bool) -> bool {
        let last = self.usual.is_empty() || self.passed >= MAX_PASSED;
        !self.locked && gives_way == (last && !self.giving_way.is_empty())
    }
}

impl TicketLock {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a turn.
    pub(crate) fn wait(&self, gives_way: bool) -> Turn<'_> {
        let mut state = self.state();
        let lane = state.lane(gives_way);
        let own = lane.coming;
        lane.coming += 1;
        while !state.is_next(gives_way) || state.lane(gives_way).served != own {
            state = self.next.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.locked = true;
        state.lane(gives_way).served += 1;
        state.passed = match gives_way || state.giving_way.is_empty() {
            true => 0,
            false => state.passed.saturating_add(1),
        };
        Turn(self)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.state().locked = false;
        self.0.next.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    /// Returns the order of turns of waiters that arrive while one has the lock.
    fn order(come: &[bool]) -> Vec<usize> {
        let lock = Arc::new(TicketLock::default());
        let order = Arc::new(Mutex::new(Vec::new()));
        let first = lock.wait(false);
        let mut waiting = Vec::new();
        for (n, gives_way) in come.iter().copied().enumerate() {
            let came = |lock: &TicketLock| {
                let state = lock.state();
                state.usual.coming + state.giving_way.coming
            };
            let (own, order, before) = (lock.clone(), order.clone(), came(&lock));
            waiting.push(std::thread::spawn(move || {
                let _turn = own.wait(gives_way);
                order.lock().unwrap().push(n);
            }));
            while came(&lock) == before {
                std::thread::yield_now();
            }
        }
        drop(first);
        for one in waiting {
            one.join().unwrap();
        }
        let order = order.lock().unwrap();
        order.clone()
    }

    #[test]
    fn turns_come_in_order() {
        assert_eq!(order(&[false; 8]), (0..8).collect::<Vec<_>>());
        assert_eq!(order(&[true; 8]), (0..8).collect::<Vec<_>>());
    }

    #[test]
    fn low_priority_writer_is_served_occasionally() {
        assert_eq!(order(&[true, true, false, false]), [2, 3, 0, 1]);
        let many: Vec<_> = [true, true].into_iter().chain([false; 10]).collect();
        assert_eq!(order(&many), [2, 3, 4, 5, 6, 7, 8, 9, 0, 10, 11, 1]);
    }
}
