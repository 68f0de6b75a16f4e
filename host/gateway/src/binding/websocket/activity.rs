//! Activity of a connection: the times that its timeouts depend on.

use std::time::Duration;

use tokio::time::Instant;

/// Length of the header of a masked control frame, in bytes.
const CONTROL_HEADER: usize = 6;

/// Times of a connection, for its timeouts.
#[derive(Debug)]
pub(super) struct Activity {
    /// Time of the last read of bytes.
    last_read: Instant,
    /// Time at which the last primitive was received or sent.
    last_primitive: Instant,
    /// Number of bytes read.
    read: u64,
    /// Number of bytes of complete messages.
    complete: u64,
    /// Time since which a message is incomplete.
    incomplete_since: Option<Instant>,
}

impl Activity {
    /// Creates the times of a connection on which so many bytes have been read.
    pub(super) fn new(read: u64) -> Self {
        let now = Instant::now();
        let incomplete_since = (read > 0).then_some(now);
        Self { last_read: now, last_primitive: now, read, complete: 0, incomplete_since }
    }

    /// Records that so many bytes have been read in total.
    pub(super) fn has_read(&mut self, read: u64) {
        if read == self.read {
            return;
        }
        self.last_read = Instant::now();
        self.read = read;
        if self.read > self.complete && self.incomplete_since.is_none() {
            self.incomplete_since = Some(self.last_read);
        }
    }

    /// Records that a ping or a pong with this length of content was received completely. It may be
    /// between the fragments of another message.
    pub(super) fn control_frame(&mut self, content: usize) {
        self.complete += (CONTROL_HEADER + content) as u64;
        if self.complete >= self.read {
            self.incomplete_since = None;
        }
    }

    /// Records that a data message was received completely. Bytes after it that were read with it
    /// count as complete too: a few kilobytes at most.
    pub(super) fn message(&mut self) {
        self.complete = self.read;
        self.incomplete_since = None;
        self.last_primitive = Instant::now();
    }

    /// Records that a primitive was sent.
    pub(super) fn sent(&mut self) {
        self.last_primitive = Instant::now();
    }

    /// Restarts the time since the last read, after a period in which the gateway did not read.
    pub(super) fn resume(&mut self) {
        self.last_read = Instant::now();
    }

    /// Returns the time of the last read of bytes.
    pub(super) fn last_read(&self) -> Instant {
        self.last_read
    }

    /// Returns the time at which the last primitive was received or sent.
    pub(super) fn last_primitive(&self) -> Instant {
        self.last_primitive
    }

    /// Returns the time at which a message has been incomplete for this long.
    pub(super) fn incomplete_until(&self, time: Duration) -> Option<Instant> {
        self.incomplete_since.map(|since| since + time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_is_incomplete_until_all_of_it_has_come() {
        let mut activity = Activity::new(0);
        let is_incomplete =
            |activity: &Activity| activity.incomplete_until(Duration::ZERO).is_some();
        assert!(!is_incomplete(&activity));
        activity.has_read(10);
        assert!(is_incomplete(&activity));
        activity.message();
        assert!(!is_incomplete(&activity));
        activity.has_read(10);
        assert!(!is_incomplete(&activity), "nothing was read");
        activity.has_read(16);
        activity.control_frame(0);
        assert!(!is_incomplete(&activity));
        // A ping between two fragments completes nothing but itself.
        activity.has_read(124);
        activity.control_frame(2);
        assert!(is_incomplete(&activity));
        activity.message();
        assert!(!is_incomplete(&activity));
        assert!(is_incomplete(&Activity::new(1)));
    }
}
