//! How far the exchange at hand is.

use std::sync::atomic::{AtomicBool, Ordering};

/// The progress of the exchanges of one association, which follow one another.
#[derive(Default)]
pub struct Progress {
    begun: AtomicBool,
    /// A request is at hand, or hyper has not taken all of its response.
    busy: AtomicBool,
    /// The request at hand has arrived whole, and is being answered.
    answering: AtomicBool,
    /// A request did not arrive whole, so that none can follow it.
    broken_off: AtomicBool,
}

impl Progress {
    /// Whether a request has arrived.
    pub fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }

    /// Whether the last request arrived whole and was answered, so that the next bytes are of another.
    pub fn is_between_requests(&self) -> bool {
        let is = |flag: &AtomicBool| flag.load(Ordering::Relaxed);
        is(&self.begun) && !is(&self.busy) && !is(&self.broken_off)
    }

    /// Whether a request has arrived whole whose response hyper does not have yet.
    pub fn is_answering(&self) -> bool {
        self.answering.load(Ordering::Relaxed)
    }

    /// The head of a request has arrived.
    pub fn begin(&self) {
        self.begun.store(true, Ordering::Relaxed);
        self.busy.store(true, Ordering::Relaxed);
    }

    /// The content of the request at hand has arrived, whole or not.
    pub fn content_arrived(&self, whole: bool) {
        self.broken_off.store(!whole, Ordering::Relaxed);
        self.answering.store(whole, Ordering::Relaxed);
    }

    /// hyper has the response to the request at hand.
    pub fn finish(&self) {
        self.busy.store(false, Ordering::Relaxed);
        self.answering.store(false, Ordering::Relaxed);
    }
}
