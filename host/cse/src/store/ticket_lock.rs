//! A lock that is had in the order in which it was asked for.
//!
//! Who writes again and again would otherwise take the lock anew before those who wait for it have
//! woken up.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// The lock.
#[derive(Debug, Default)]
pub(crate) struct TicketLock {
    tickets: Mutex<Tickets>,
    next: Condvar,
}

#[derive(Debug, Default)]
struct Tickets {
    /// The number of who comes next.
    coming: u64,
    /// The number of whose turn it is.
    served: u64,
}

/// A turn, until it is dropped.
#[derive(Debug)]
#[must_use]
pub(crate) struct Turn<'q>(&'q TicketLock);

impl TicketLock {
    fn tickets(&self) -> MutexGuard<'_, Tickets> {
        self.tickets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a turn.
    pub(crate) fn wait(&self) -> Turn<'_> {
        let mut tickets = self.tickets();
        let own = tickets.coming;
        tickets.coming += 1;
        while tickets.served != own {
            tickets = self.next.wait(tickets).unwrap_or_else(PoisonError::into_inner);
        }
        Turn(self)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.tickets().served += 1;
        self.0.next.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn turns_come_in_order() {
        let lock = Arc::new(TicketLock::default());
        let order = Arc::new(Mutex::new(Vec::new()));
        let first = lock.wait();
        let mut waiting = Vec::new();
        for n in 0..8 {
            let (lock, order) = (lock.clone(), order.clone());
            let before = lock.tickets().coming;
            let own = lock.clone();
            waiting.push(std::thread::spawn(move || {
                let _turn = own.wait();
                order.lock().unwrap().push(n);
            }));
            while lock.tickets().coming == before {
                std::thread::yield_now();
            }
        }
        drop(first);
        for one in waiting {
            one.join().unwrap();
        }
        assert_eq!(*order.lock().unwrap(), (0..8).collect::<Vec<_>>());
    }
}
