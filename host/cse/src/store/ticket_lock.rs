//! A fair lock with two queues. Waiters get it in the order of their arrival. Waiters with a low
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
    normal_priority: WaitQueue,
    low_priority: WaitQueue,
    /// Number of turns of other waiters since one with a low priority waits.
    passed: u32,
}

/// The waiters of one priority, as numbers: those from `served` to `coming` wait.
#[derive(Debug, Default)]
struct WaitQueue {
    /// Number of the next arrival.
    coming: u64,
    /// Number of the next turn.
    served: u64,
}

impl WaitQueue {
    fn is_empty(&self) -> bool {
        self.coming == self.served
    }
}

/// The lock is held until this is dropped.
#[derive(Debug)]
#[must_use]
pub(crate) struct TicketGuard<'q>(&'q TicketLock);

impl State {
    fn queue(&mut self, low_priority: bool) -> &mut WaitQueue {
        if low_priority { &mut self.low_priority } else { &mut self.normal_priority }
    }

    /// Returns whether the next waiter has a low priority, if one waits.
    fn next(&self) -> Option<bool> {
        match (self.normal_priority.is_empty(), self.low_priority.is_empty()) {
            (true, true) => None,
            (_, true) => Some(false),
            (none, false) => Some(none || self.passed >= MAX_PASSED),
        }
    }

    /// Returns whether the lock is free and this queue has the next turn.
    fn is_next(&self, low_priority: bool) -> bool {
        !self.locked && self.next() == Some(low_priority)
    }
}

impl TicketLock {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a turn.
    pub(crate) fn wait(&self, low_priority: bool) -> TicketGuard<'_> {
        let mut state = self.state();
        let queue = state.queue(low_priority);
        let own = queue.coming;
        queue.coming += 1;
        while !state.is_next(low_priority) || state.queue(low_priority).served != own {
            state = self.next.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.locked = true;
        state.queue(low_priority).served += 1;
        state.passed = match low_priority || state.low_priority.is_empty() {
            true => 0,
            false => state.passed.saturating_add(1),
        };
        TicketGuard(self)
    }
}

impl TicketGuard<'_> {
    /// Returns whether the next waiter has a low priority, if one waits.
    pub(crate) fn next(&self) -> Option<bool> {
        self.0.state().next()
    }
}

impl Drop for TicketGuard<'_> {
    fn drop(&mut self) {
        self.0.state().locked = false;
        self.0.next.notify_all();
    }
}

#[cfg(test)]
impl TicketLock {
    /// Returns the number of arrivals so far.
    pub(crate) fn arrivals(&self) -> u64 {
        let state = self.state();
        state.normal_priority.coming + state.low_priority.coming
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
        for (n, low_priority) in come.iter().copied().enumerate() {
            let (own, order, before) = (lock.clone(), order.clone(), lock.arrivals());
            waiting.push(std::thread::spawn(move || {
                let _turn = own.wait(low_priority);
                order.lock().unwrap().push(n);
            }));
            while lock.arrivals() == before {
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
