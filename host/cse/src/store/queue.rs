//! A lock that is had in the order in which it was asked for.
//!
//! Who writes again and again would otherwise take the lock anew before those who wait for it have
//! woken up.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// The lock.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    numbers: Mutex<Numbers>,
    next: Condvar,
}

#[derive(Debug, Default)]
struct Numbers {
    /// The number of who comes next.
    coming: u64,
    /// The number of whose turn it is.
    served: u64,
}

/// A turn, until it is dropped.
#[derive(Debug)]
#[must_use]
pub(crate) struct Turn<'q>(&'q Queue);

impl Queue {
    fn numbers(&self) -> MutexGuard<'_, Numbers> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a turn.
    pub(crate) fn wait(&self) -> Turn<'_> {
        let mut numbers = self.numbers();
        let own = numbers.coming;
        numbers.coming += 1;
        while numbers.served != own {
            numbers = self.next.wait(numbers).unwrap_or_else(PoisonError::into_inner);
        }
        Turn(self)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.numbers().served += 1;
        self.0.next.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn turns_come_in_order() {
        let queue = Arc::new(Queue::default());
        let order = Arc::new(Mutex::new(Vec::new()));
        let first = queue.wait();
        let mut waiting = Vec::new();
        for n in 0..8 {
            let (queue, order) = (queue.clone(), order.clone());
            let before = queue.numbers().coming;
            let own = queue.clone();
            waiting.push(std::thread::spawn(move || {
                let _turn = own.wait();
                order.lock().unwrap().push(n);
            }));
            while queue.numbers().coming == before {
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
