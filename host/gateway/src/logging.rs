//! Where log and audit trail are written: the log to standard error, the trail to a file as well.

use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use saegis_policy::{Fault, Faults};
use tracing_subscriber::filter::{FilterExt as _, filter_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, fmt};

use crate::audit;
use crate::config::{Audit, Log, LogFormat};
use crate::line_file::{LineFile, Told};
use crate::lines::{Lines, Rest};

/// How it is told that the audit trail can't be written.
const TRAIL: Told =
    Told { what: "the audit trail", failed: "audit.failed", resumed: "audit.resumed" };

/// Writes what is left when dropped.
pub struct Logging {
    _rest: Vec<Rest>,
}

/// Lines that could not be written.
#[derive(Clone)]
pub struct Lost {
    log: Lines,
    trail: Option<(Lines, Arc<AtomicU64>)>,
}

impl Lost {
    /// Lines of the log that nobody took in time.
    pub fn log(&self) -> u64 {
        self.log.lost()
    }

    /// Lines of the audit trail that its file did not take.
    pub fn trail(&self) -> u64 {
        self.trail
            .as_ref()
            .map_or(0, |(lines, failed)| lines.lost() + failed.load(Ordering::Relaxed))
    }
}

/// Starts log and audit trail. What the environment variable `SAEGIS_LOG` says of what is logged
/// has precedence; the trail is always whole.
///
/// Lines are written by threads of their own, so that a slow reader of the log, or a slow disk,
/// holds nothing up; what it can't keep up with is dropped and counted.
///
/// # Errors
/// When the trail's file can't be written, or there are no threads.
pub fn start(log: &Log, trail: &Audit) -> Result<(Logging, Lost), Faults> {
    let configured = log.filter.as_deref().unwrap_or("info");
    let filter = EnvFilter::try_from_env("SAEGIS_LOG")
        .or_else(|_| EnvFilter::try_new(configured))
        .unwrap_or_else(|_| EnvFilter::new("info"));
    let no_thread =
        |e: io::Error| Faults(vec![Fault::of(Path::new("log"), format!("no threads: {e}"))]);
    let (writer, rest) = Lines::to("log", io::stderr()).map_err(no_thread)?;
    let mut lost = Lost { log: writer.clone(), trail: None };
    let mut all = vec![rest];
    let lines = fmt::layer().with_writer(writer).with_ansi(io::stderr().is_terminal());
    // What goes wrong with a module's own requests is told within the module's budget of lines. The
    // library tells it as well, as often as a module likes.
    let ours = filter_fn(|of| !of.target().starts_with("wasmtime_wasi"));
    let filter = filter.and(ours);
    let lines = match log.format {
        LogFormat::Text => lines.with_target(false).with_filter(filter).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_filter(filter).boxed(),
    };
    let trail = match &trail.file {
        None => None,
        Some(path) => {
            let file =
                LineFile::open(path, trail.file_bytes, trail.old_files, &TRAIL).map_err(|e| {
                    Faults(vec![Fault::of(path, format!("audit.file: can't be written: {e}"))])
                })?;
            let failed = file.failed();
            let (writer, rest) = Lines::to("audit", file).map_err(no_thread)?;
            lost.trail = Some((writer.clone(), failed));
            all.push(rest);
            let lines = fmt::layer().json().flatten_event(true).with_target(false);
            let lines = lines.with_current_span(false).with_span_list(false).with_writer(writer);
            Some(lines.with_filter(filter_fn(|of| of.target() == audit::TARGET)))
        }
    };
    tracing_subscriber::registry().with(lines).with(trail).init();
    Ok((Logging { _rest: all }, lost))
}
