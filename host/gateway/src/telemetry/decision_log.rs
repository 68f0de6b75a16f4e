//! Writes decisions to the recording, on a separate thread.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rand::RngExt;
use saegis_policy::{Decision, Fault, Faults, Recorder};

use crate::config::Decisions;
use crate::telemetry::log_writer::{NonBlockingWriter, WriterGuard};
use crate::telemetry::rotating_file::{FailureEvents, LineFile};

/// Maximum length of a line of a recording, in bytes. A longer one is neither recorded nor read.
pub const MAX_LINE: usize = 64 << 10;

/// Events about failures of the recording.
const RECORDING_EVENTS: FailureEvents = FailureEvents {
    what: "the recording of decisions",
    failed: "decisions.failed",
    resumed: "decisions.resumed",
};

/// Writes pending lines when it is dropped.
pub struct Recording {
    _rest: WriterGuard,
    /// Recorder for decisions.
    pub recorder: Arc<dyn Recorder>,
    /// Number of lost decisions.
    pub lost: LostDecisions,
}

/// Decisions that could not be recorded.
#[derive(Clone)]
pub struct LostDecisions {
    lines: NonBlockingWriter,
    failed: Arc<AtomicU64>,
    too_long: Arc<AtomicU64>,
}

impl LostDecisions {
    /// Reopens the file if it was moved.
    pub fn reopen(&self) {
        self.lines.flush_soon();
    }

    /// Returns their number.
    pub fn count(&self) -> u64 {
        self.lines.lost()
            + self.failed.load(Ordering::Relaxed)
            + self.too_long.load(Ordering::Relaxed)
    }
}

/// Starts recording, if configured.
///
/// # Errors
/// Fails if the file cannot be written.
pub fn start(decisions: &Decisions) -> Result<Option<Recording>, Faults> {
    let Some(path) = &decisions.record else { return Ok(None) };
    let fault = |e: std::io::Error| {
        Faults(vec![Fault::of(path, format!("decisions.record: cannot be written: {e}"))])
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

/// Formats each decision as a line.
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
        // It never fails: a line without room is dropped and counted.
        let _ = self.lines.clone().write_all(&line);
    }
}
