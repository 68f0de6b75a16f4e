//! The announcements that have failed, and how long each is set back.

use std::collections::HashMap;
use std::time::Duration;

/// Minimum and maximum delay of an announcement that has failed. The delay doubles with each failure.
const MIN_DELAY: Duration = Duration::from_secs(1);
const MAX_DELAY: Duration = Duration::from_secs(600);

/// Maximum number of announcements whose failures are counted. Then the counts start again, because some
/// of the resources may be gone.
const MAX_COUNTED: usize = 4096;

/// The failures of announcements, by the identifiers of the tasks.
#[derive(Default)]
pub(super) struct AnnouncementFailures {
    delays: HashMap<String, Duration>,
    last: Option<String>,
    are_of_several: bool,
}

impl AnnouncementFailures {
    /// Counts a failure. Returns the delay of the announcement.
    pub(super) fn add(&mut self, id: &str) -> Duration {
        self.are_of_several |= self.last.as_ref().is_some_and(|last| last != id);
        self.last = Some(id.to_owned());
        if let Some(delay) = self.delays.get_mut(id) {
            *delay = (*delay * 2).min(MAX_DELAY);
            return *delay;
        }
        if self.delays.len() >= MAX_COUNTED {
            self.delays.clear();
        }
        self.delays.insert(id.to_owned(), MIN_DELAY);
        MIN_DELAY
    }

    /// Ends the failures of an announcement.
    pub(super) fn end(&mut self, id: &str) {
        self.delays.remove(id);
        (self.last, self.are_of_several) = (None, false);
    }

    /// Returns whether different announcements have failed since the last success, so that the cause is
    /// probably the registrar CSE.
    pub(super) fn are_of_several(&self) -> bool {
        self.are_of_several
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delay_doubles_up_to_maximum() {
        let mut failures = AnnouncementFailures::default();
        let delays: Vec<_> = (0..12).map(|_| failures.add("one").as_secs()).collect();
        assert_eq!(delays, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600]);
        assert!(!failures.are_of_several());
        failures.end("one");
        assert_eq!(failures.add("one"), MIN_DELAY);
    }

    #[test]
    fn failures_of_several_announcements_are_noticed() {
        let mut failures = AnnouncementFailures::default();
        failures.add("one");
        failures.end("two");
        failures.add("two");
        assert!(!failures.are_of_several());
        failures.add("one");
        assert!(failures.are_of_several());
        failures.end("two");
        assert!(!failures.are_of_several());
    }

    #[test]
    fn number_of_counted_failures_is_bounded() {
        let mut failures = AnnouncementFailures::default();
        for n in 0..2 * MAX_COUNTED {
            assert_eq!(failures.add(&n.to_string()), MIN_DELAY);
            assert!(failures.delays.len() <= MAX_COUNTED);
        }
    }
}
