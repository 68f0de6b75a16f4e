//! Where log and audit trail are written: the log to standard error, the trail to a file as well.

use std::borrow::Cow;
use std::io::{self, IsTerminal as _, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use saegis_policy::{Fault, Faults, needs_escape};
use tracing_subscriber::filter::{FilterExt as _, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, fmt};

use crate::config::{Audit, Log, LogFormat};
use crate::telemetry::audit::{self, chain::Chain, chain::Head};
use crate::telemetry::log_writer::{NonBlockingWriter, WriterGuard};
use crate::telemetry::rotating_file::{FailureEvents, LineFile};

/// How it is told that the audit trail can't be written.
const TRAIL_EVENTS: FailureEvents =
    FailureEvents { what: "the audit trail", failed: "audit.failed", resumed: "audit.resumed" };
const REFUSALS_EVENTS: FailureEvents = FailureEvents {
    what: "the audit trail of refused requests",
    failed: "audit.failed",
    resumed: "audit.resumed",
};

/// Writes what is left when dropped.
pub struct Logging {
    _rest: Vec<WriterGuard>,
}

/// Counters and heads of log and trails.
#[derive(Clone)]
pub struct Written {
    log: NonBlockingWriter,
    trails: Vec<Trail>,
}

#[derive(Clone)]
struct Trail {
    lines: NonBlockingWriter,
    failed: Arc<AtomicU64>,
    head: Head,
}

impl Written {
    /// Lines of the log that nobody took in time.
    pub fn lost_of_log(&self) -> u64 {
        self.log.lost()
    }

    /// Lines of the audit trails that were not written.
    pub fn lost_of_trails(&self) -> u64 {
        let lost = |trail: &Trail| trail.lines.lost() + trail.failed.load(Ordering::Relaxed);
        self.trails.iter().map(lost).sum()
    }

    /// The digests of the last lines of the trails: of the security events, and of refused requests.
    pub fn heads(&self) -> Vec<Option<String>> {
        self.trails.iter().map(|trail| trail.head.get().map(|head| head.to_string())).collect()
    }

    /// Has files let go that were moved away.
    pub fn reopen(&self) {
        self.trails.iter().for_each(|trail| trail.lines.flush_soon());
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
pub fn start(log: &Log, audit: &Audit) -> Result<(Logging, Written), Faults> {
    let configured = log.filter.as_deref().unwrap_or("info");
    let filter = EnvFilter::try_from_env("SAEGIS_LOG")
        .or_else(|_| EnvFilter::try_new(configured))
        .unwrap_or_else(|_| EnvFilter::new("info"));
    let (writer, rest) = NonBlockingWriter::to("log", io::stderr()).map_err(no_thread)?;
    let mut written = Written { log: writer.clone(), trails: Vec::new() };
    let mut all = vec![rest];
    let colored = io::stderr().is_terminal();
    let lines = fmt::layer().with_ansi(colored);
    // What goes wrong with a module's own requests is told within the module's budget of lines. The
    // library tells it as well, as often as a module likes.
    let ours = filter_fn(|of| !of.target().starts_with("wasmtime_wasi"));
    let filter = filter.and(ours);
    let lines = match log.format {
        LogFormat::Text => {
            let writer = OneLine { lines: writer, colored };
            lines.with_target(false).with_writer(writer).with_filter(filter).boxed()
        }
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true).with_current_span(false);
            lines.with_writer(writer).with_filter(filter).boxed()
        }
    };
    let mut layers = vec![lines];
    let of_refusals = audit.refusals_file();
    for (entry, path, target, told) in [
        ("audit.file", audit.file.as_ref(), audit::TARGET, &TRAIL_EVENTS),
        ("audit.refusals-file", of_refusals.as_ref(), audit::REFUSALS, &REFUSALS_EVENTS),
    ] {
        let Some(path) = path else { continue };
        let not_written =
            |e| Faults(vec![Fault::of(path, format!("{entry}: can't be written: {e}"))]);
        let file = LineFile::open(path, audit.file_bytes, audit.retained_files, told);
        let file = file.map_err(not_written)?;
        let failed = file.failed();
        let chain = Chain::new(file, path).map_err(not_written)?;
        let head = chain.head();
        let (lines, rest) = NonBlockingWriter::to("audit", chain).map_err(no_thread)?;
        written.trails.push(Trail { lines: lines.clone(), failed, head });
        all.push(rest);
        let layer = fmt::layer().json().flatten_event(true).with_target(false);
        let layer = layer.with_current_span(false).with_span_list(false).with_writer(lines);
        layers.push(layer.with_filter(filter_fn(move |of| of.target() == target)).boxed());
    }
    tracing_subscriber::registry().with(layers).init();
    Ok((Logging { _rest: all }, written))
}

/// Writes each event as one line: it escapes what could begin another, as JSON does by itself.
#[derive(Clone)]
struct OneLine {
    lines: NonBlockingWriter,
    /// Whether the escape character may be the formatter's own. It escapes that of others itself.
    colored: bool,
}

impl Write for OneLine {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        self.lines.write_all(&one_line(event, self.colored))?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.lines.flush()
    }
}

impl<'a> MakeWriter<'a> for OneLine {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

fn one_line(event: &[u8], colored: bool) -> Cow<'_, [u8]> {
    let text = event.strip_suffix(b"\n").unwrap_or(event);
    let text = String::from_utf8_lossy(text);
    let forges = |c: char| needs_escape(c) && !(colored && c == '\u{1b}');
    if !text.contains(forges) {
        return Cow::Borrowed(event);
    }
    let mut line = String::with_capacity(event.len() + 16);
    for c in text.chars() {
        if forges(c) { line.extend(c.escape_default()) } else { line.push(c) }
    }
    line.push('\n');
    Cow::Owned(line.into_bytes())
}

fn no_thread(e: io::Error) -> Faults {
    Faults(vec![Fault::of(Path::new("log"), format!("no threads: {e}"))])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_is_one_line() {
        let text = |event: &str, colored| {
            String::from_utf8(one_line(event.as_bytes(), colored).into_owned()).unwrap()
        };
        assert_eq!(text("INFO it is good: ä\n", false), "INFO it is good: ä\n");
        assert_eq!(text("a\nERROR b\r\u{1b}[2K\n", false), "a\\nERROR b\\r\\u{1b}[2K\n");
        assert_eq!(text("\u{1b}[32mINFO\u{1b}[0m a\nb\n", true), "\u{1b}[32mINFO\u{1b}[0m a\\nb\n");
    }
}
