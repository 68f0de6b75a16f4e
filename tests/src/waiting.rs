//! Waiting for what a gateway does in its own time, and times of day.

use std::fmt::Debug;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::process::BOUND;

/// Time between two attempts.
const INTERVAL: Duration = Duration::from_millis(10);

/// Tries until it succeeds, and returns what came of it. Panics with the last error after the time in
/// which everything in a suite has to happen.
#[track_caller]
pub fn eventually<T, E: Debug>(mut attempt: impl FnMut() -> Result<T, E>) -> T {
    let deadline = Instant::now() + BOUND;
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

/// The time in so many seconds, as oneM2M writes it.
pub fn seconds_from_now(seconds: u64) -> String {
    let ahead = format!("--date=+{seconds} seconds");
    let date = Command::new("date").args(["-u", &ahead, "+%Y%m%dT%H%M%S"]).output();
    String::from_utf8(date.unwrap().stdout).unwrap().trim().into()
}
