//! Polling helpers, and timestamps.

use std::fmt::Debug;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::process::BOUND;

/// Interval between two attempts.
const INTERVAL: Duration = Duration::from_millis(10);

/// Repeats an attempt until it succeeds, and returns its result. Panics with the last error after
/// the time limit of the suites.
#[track_caller]
pub fn eventually<T, E: Debug>(attempt: impl FnMut() -> Result<T, E>) -> T {
    eventually_within(BOUND, attempt)
}

/// Repeats an attempt until it succeeds, and returns its result. Panics with the last error after a
/// time limit.
#[track_caller]
pub(crate) fn eventually_within<T, E: Debug>(
    bound: Duration,
    mut attempt: impl FnMut() -> Result<T, E>,
) -> T {
    let deadline = Instant::now() + bound;
    loop {
        match attempt() {
            Ok(found) => return found,
            Err(error) => assert!(Instant::now() < deadline, "not in time: {error:?}"),
        }
        thread::sleep(INTERVAL);
    }
}

/// Waits until a condition holds.
#[track_caller]
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    eventually(|| if holds() { Ok(()) } else { Err(what) });
}

/// Returns the time in this many seconds as a oneM2M timestamp.
pub fn seconds_from_now(seconds: u64) -> String {
    let ahead = format!("--date=+{seconds} seconds");
    let date = Command::new("date").args(["-u", &ahead, "+%Y%m%dT%H%M%S"]).output();
    String::from_utf8(date.unwrap().stdout).unwrap().trim().into()
}
