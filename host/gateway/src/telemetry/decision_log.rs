//! Writing decisions down, by a thread of its own.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rand::RngExt;
use saegis_policy::{Decision, Fault, Faults, Recorder};

use crate::config::Decisions;
use crate::telemetry::log_writer::{NonBlockingWriter, WriterGuard};
use crate::telemetry::rotating_file::{FailureEvents, LineFile};

/// Longest line of a recording, in bytes. What is longer is not recorded, and not read.
pub const MAX_LINE: usize = 64 << 10;

/// How it is told that decisions can't be recorded.
const RECORDING_EVENTS: FailureEvents = FailureEvents {
    what: "the recording of decisions",
    failed: "decisions.failed",
    resumed: "decisions.resumed",
};

/// Writes what is left when dropped.
pub struct Recording {
    _rest: WriterGuard,
    /// What takes decisions down.
    pub recorder: Arc<dyn Recorder>,
    /// What was lost.
    pub lost: LostDecisions,
}

/// Decisions that were to be recorded and are not.
#[derive(Clone)]
pub struct LostDecisions {
    lines: NonBlockingWriter,
    failed: Arc<AtomicU64>,
    too_long: Arc<AtomicU64>,
}

impl LostDecisions {
    /// Has the file let go if it was moved away.
    pub fn reopen(&self) {
        self.lines.flush_soon();
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.lines.lost()
            + self.failed.load(Ordering::Relaxed)
            + self.too_long.load(Ordering::Relaxed)
    }
}

/// Starts recording, if the configuration says so.
///
/// # Errors
/// When the file can't be written.
pub fn start(decisions: &Decisions) -> Result<Option<Recording>, Faults> {
    let Some(path) = &decisions.record else { return Ok(None) };
    let fault = |e: std::io::Error| {
        Faults(vec![Fault::of(path, format!("decisions.record: can't be written: {e}"))])
    };
    let file =
        LineFile::open(path, decisions.file_bytes, decisions.retained_files, &RECORDING_EVENTS);
    let file = file.map_err(fault)?;
    let failed = file.failed();
    let (lines, rest) = NonBlockingWriter::to("decisions", file).map_err(fault)?;
    let too_long = Arc::<AtomicU64>::default();
    let lost = LostDecisions { lines: lines.clone(), failed, too_long: too_long.clone() };
    let recorder = Arc::new(Writes { lines, sample: decisions.sample, too_long });
    Ok(Some(Recording { _rest: rest, recorder, lost }))
}

/// Makes a line of each decision.
struct Writes {
    lines: NonBlockingWriter,
    sample: f64,
    too_long: Arc<AtomicU64>,
}

impl Recorder for Writes {
    fn is_due(&self) -> bool {
        self.sample >= 1.0 || rand::rng().random::<f64>() < self.sample
    }

    fn record(&self, decision: &Decision) {
        let line = serde_json::to_vec(decision).ok().filter(|line| line.len() < MAX_LINE);
        let Some(mut line) = line else {
            self.too_long.fetch_add(1, Ordering::Relaxed);
            return;
        };
        line.push(b'\n');
        // It never fails: what finds no place is dropped, and counted.
        let _ = self.lines.clone().write_all(&line);
    }
}
