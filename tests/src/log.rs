//! The gateway's log: one JSON object a line.

use std::time::Duration;

use serde_json::Value;

use crate::process::{BOUND, Output};

/// A line of the log.
#[derive(Debug, Clone)]
pub struct Event(Value);

impl Event {
    /// Returns a field as text.
    pub fn text(&self, field: &str) -> String {
        match &self.0[field] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }
    }

    /// Returns a field as a number.
    pub fn number(&self, field: &str) -> u64 {
        self.0[field].as_u64().unwrap_or_else(|| panic!("{field} is not a number in {}", self.0))
    }

    /// Returns the message.
    pub fn message(&self) -> String {
        self.text("message")
    }
}

/// A position in the log.
///
/// The gateway writes a log line shortly after the event. Wait for earlier events before setting a
/// mark.
#[derive(Debug, Clone, Copy)]
pub struct Mark(usize);

impl Mark {
    /// The start of the log.
    pub const START: Self = Self(0);
}

/// A gateway's log.
pub struct Log(Output);

impl Log {
    pub(crate) fn new(output: Output) -> Self {
        Self(output)
    }

    /// Returns the current end of the log.
    pub fn mark(&self) -> Mark {
        Mark(self.0.text().rfind('\n').map_or(0, |end| end + 1))
    }

    /// Waits for an event anywhere in the log.
    #[track_caller]
    pub fn wait(&self, event: &str) -> Event {
        self.wait_for(Mark::START, event, |_| true)
    }

    /// Waits for an event after a mark.
    #[track_caller]
    pub fn wait_after(&self, mark: Mark, event: &str) -> Event {
        self.wait_for(mark, event, |_| true)
    }

    /// Waits for an event after a mark that satisfies `fits`.
    #[track_caller]
    pub fn wait_for(&self, mark: Mark, event: &str, fits: impl Fn(&Event) -> bool) -> Event {
        match self.find(BOUND, mark, event, fits) {
            Some(found) => found,
            None => panic!("no such {event} in the log"),
        }
    }

    /// Waits until there are `at_least` events of a name after a mark, and returns them.
    #[track_caller]
    pub fn all(&self, mark: Mark, event: &str, at_least: usize) -> Vec<Event> {
        let found = self.0.wait(BOUND, |bytes, ended| {
            let found: Vec<_> = lines(bytes, mark).filter(|e| e.text("event") == event).collect();
            if found.len() < at_least && !ended { None } else { Some(found) }
        });
        match found.filter(|found| found.len() >= at_least) {
            Some(found) => found,
            None => panic!("there are not {at_least} {event} in the log"),
        }
    }

    /// Returns the log so far.
    pub fn text(&self) -> String {
        self.0.text()
    }

    fn find(
        &self,
        bound: Duration,
        mark: Mark,
        event: &str,
        fits: impl Fn(&Event) -> bool,
    ) -> Option<Event> {
        let found = self.0.wait(bound, |bytes, ended| {
            let found = lines(bytes, mark).find(|e| e.text("event") == event && fits(e));
            if found.is_none() && !ended { None } else { Some(found) }
        });
        found.flatten()
    }
}

/// Prints the log when the test fails.
impl Drop for Log {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the gateway's log:\n{}", self.0.text());
        }
    }
}

/// Returns the complete lines after a mark. Lines that are not JSON, such as panics, are skipped.
fn lines(bytes: &[u8], mark: Mark) -> impl Iterator<Item = Event> {
    let end = bytes.iter().rposition(|&b| b == b'\n').map_or(0, |end| end + 1);
    let whole = bytes.get(mark.0..end).unwrap_or_default();
    let lines = whole.split(|&b| b == b'\n');
    lines.filter_map(|line| serde_json::from_slice(line).ok().map(Event))
}
