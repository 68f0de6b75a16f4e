//! Progress of the current exchange.

use std::sync::atomic::{AtomicBool, Ordering};

/// Progress of the exchanges of one association, one after the other.
#[derive(Default)]
pub struct Progress {
    begun: AtomicBool,
    /// A request was received, or hyper has not taken all of its response.
    busy: AtomicBool,
    /// The current request was received completely and is being handled.
    answering: AtomicBool,
    /// A request was received incompletely, so no other can follow it.
    broken_off: AtomicBool,
}

impl Progress {
    /// Returns whether a request was received.
    pub fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }

    /// Returns whether the last exchange is complete, so that the next bytes belong to another
    /// request.
    pub fn is_between_requests(&self) -> bool {
        let is = |flag: &AtomicBool| flag.load(Ordering::Relaxed);
        is(&self.begun) && !is(&self.busy) && !is(&self.broken_off)
    }

    /// Returns whether a complete request is waiting for its response.
    pub fn is_answering(&self) -> bool {
        self.answering.load(Ordering::Relaxed)
    }

    /// Records that the head of a request was received.
    pub fn begin(&self) {
        self.begun.store(true, Ordering::Relaxed);
        self.busy.store(true, Ordering::Relaxed);
    }

    /// Records that the content of the current request was received, completely or not.
    pub fn content_arrived(&self, whole: bool) {
        self.broken_off.store(!whole, Ordering::Relaxed);
        self.answering.store(whole, Ordering::Relaxed);
    }

    /// Records that hyper has the response to the current request.
    pub fn finish(&self) {
        self.busy.store(false, Ordering::Relaxed);
        self.answering.store(false, Ordering::Relaxed);
    }
}
