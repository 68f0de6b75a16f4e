//! Destinations of log and audit trail: the log goes to standard error, the trail also to files.

use std::borrow::Cow;
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use saegis_policy::{Fault, Faults, needs_escape};
use tracing::Event;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing_log::{AsLog as _, log};
use tracing_subscriber::field::{RecordFields, VisitOutput as _};
use tracing_subscriber::filter::{FilterExt as _, LevelFilter, filter_fn};
use tracing_subscriber::fmt::format::{DefaultVisitor, Writer};
use tracing_subscriber::fmt::{FormatFields, MakeWriter};
use tracing_subscriber::layer::{Context, Filter, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

use crate::config::{Audit, Log, LogFormat};
use crate::telemetry::audit::{self, chain::Chain, chain::Head};
use crate::telemetry::json_lines::{JsonFields, JsonLines};
use crate::telemetry::log_writer::{NonBlockingWriter, WriterGuard};
use crate::telemetry::rotating_file::{FailureEvents, LineFile};

/// Events about failures of the audit trail.
const TRAIL_EVENTS: FailureEvents =
    FailureEvents { what: "the audit trail", failed: "audit.failed", resumed: "audit.resumed" };
const REFUSALS_EVENTS: FailureEvents = FailureEvents {
    what: "the audit trail of refused requests",
    failed: "audit.failed",
    resumed: "audit.resumed",
};

/// The guards of the threads that write the log and the trails. Dropping it writes pending lines.
pub struct LogGuard {
    _writers: Vec<WriterGuard>,
}

/// The log and the trails of this process: their counters, and the heads of the trails' chains.
#[derive(Clone)]
pub struct LogOutputs {
    log: NonBlockingWriter,
    level: LogLevel,
    /// The trail of security events, and that of refused requests.
    trails: Vec<Trail>,
}

/// The filter of the log, which can change at run time.
#[derive(Clone)]
struct LogLevel {
    set: Arc<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>,
    /// The filter as text.
    text: Arc<Mutex<String>>,
    /// That of the start.
    first: Arc<str>,
}

#[derive(Clone)]
struct Trail {
    lines: NonBlockingWriter,
    /// Number of lines that could not be written to the file.
    failed: Arc<AtomicU64>,
    head: Head,
}

impl LogOutputs {
    /// Returns the filter of the log.
    pub fn filter(&self) -> String {
        self.level.text.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the filter of the log, or restores that of the start.
    ///
    /// # Errors
    /// Fails if the filter is invalid.
    pub fn set_filter(&self, filter: Option<&str>) -> Result<(), String> {
        let text = filter.unwrap_or(&self.level.first);
        let parsed = EnvFilter::try_new(text);
        let parsed = parsed.map_err(|e| format!("{text:?} is not a valid filter: {e}"))?;
        (self.level.set)(parsed)?;
        *self.level.text.lock().unwrap_or_else(PoisonError::into_inner) = text.into();
        Ok(())
    }

    /// Returns the number of log lines that were dropped.
    pub fn lost_log_lines(&self) -> u64 {
        self.log.lost()
    }

    /// Returns the number of lines of the audit trails that were not written.
    pub fn lost_trail_lines(&self) -> u64 {
        let lost = |trail: &Trail| trail.lines.lost() + trail.failed.load(Ordering::Relaxed);
        self.trails.iter().map(lost).sum()
    }

    /// Returns the digests of the last lines of the trails: of security events, and of refused
    /// requests.
    pub fn heads(&self) -> Vec<Option<String>> {
        self.trails.iter().map(|trail| trail.head.get().map(|head| head.to_string())).collect()
    }

    /// Reopens files that were moved: each flush of a trail compares the path with the open file.
    pub fn reopen(&self) {
        self.trails.iter().for_each(|trail| trail.lines.flush_soon());
    }
}

/// Starts log and audit trail. The environment variable `SAEGIS_LOG` overrides the configured
/// filter. The trail is always complete. `colored` is whether text lines have colors.
///
/// Separate threads write the lines, so that a slow reader of the log or a slow disk does not block
/// requests. Lines beyond their buffers are dropped and counted.
///
/// # Errors
/// Fails if the file of a trail cannot be written, or a thread cannot be started.
pub fn start(log: &Log, audit: &Audit, colored: bool) -> Result<(LogGuard, LogOutputs), Faults> {
    let configured = log.filter.as_deref().unwrap_or("info");
    let filter = EnvFilter::try_from_env("SAEGIS_LOG")
        .or_else(|_| EnvFilter::try_new(configured))
        .unwrap_or_else(|_| EnvFilter::new("info"));
    let (writer, guard) = NonBlockingWriter::to("log", io::stderr()).map_err(no_thread)?;
    let first = filter.to_string();
    let (filter, handle) = reload::Layer::new(filter);
    let level = LogLevel {
        set: Arc::new(move |filter: EnvFilter| {
            handle.reload(filter).map_err(|e| e.to_string())?;
            // Lines of libraries that use `log` have a maximum level of their own.
            log::set_max_level(LevelFilter::current().as_log());
            Ok(())
        }),
        text: Arc::new(Mutex::new(first.clone())),
        first: first.into(),
    };
    let mut outputs = LogOutputs { log: writer.clone(), level, trails: Vec::new() };
    let mut guards = vec![guard];
    let lines = fmt::layer().with_ansi(colored);
    // Errors of the requests of a module are logged within the line limit of the module. The library
    // would also log them, without a limit.
    let others = filter_fn(|event| !event.target().starts_with("wasmtime_wasi"))
        .with_max_level_hint(LevelFilter::TRACE);
    let filter: SharedFilter = Arc::new(filter.and(others));
    let lines: BoxedLayer = match log.format {
        LogFormat::Text => {
            let writer = OneLineWriter { lines: writer, colored };
            Box::new(lines.fmt_fields(TextFields).with_target(false).with_writer(writer))
        }
        LogFormat::Json => {
            let lines = lines.fmt_fields(JsonFields).event_format(JsonLines::of_log());
            Box::new(lines.with_writer(writer))
        }
    };
    let mut layers = Layers { log: lines, filter: filter.clone(), trails: Vec::new() };
    let refusals_file = audit.refusals_file();
    for (option, path, target, failure_events) in [
        ("audit.file", audit.file.as_ref(), audit::TARGET, &TRAIL_EVENTS),
        ("audit.refusals-file", refusals_file.as_ref(), audit::REFUSALS, &REFUSALS_EVENTS),
    ] {
        let Some(path) = path else { continue };
        let not_written =
            |e| Faults(vec![Fault::of(path, format!("{option}: cannot be written: {e}"))]);
        let file = LineFile::open(path, audit.file_bytes, audit.retained_files, failure_events);
        let file = file.map_err(not_written)?;
        let failed = file.failed();
        let chain = Chain::new(file, path).map_err(not_written)?;
        let head = chain.head();
        let (lines, guard) = NonBlockingWriter::to("audit", chain).map_err(no_thread)?;
        outputs.trails.push(Trail { lines: lines.clone(), failed, head });
        guards.push(guard);
        let layer = fmt::layer().fmt_fields(JsonFields).event_format(JsonLines::of_trail());
        layers.trails.push((target, Box::new(layer.with_writer(lines))));
    }
    // Each filter has a maximum level. Without one, each line of a library that uses `log` would be
    // formatted before it is filtered.
    let trails: Vec<_> = layers.trails.iter().map(|(target, _)| *target).collect();
    let of_trail = filter_fn(move |event| trails.contains(&event.target()))
        .with_max_level_hint(LevelFilter::INFO);
    tracing_subscriber::registry().with(layers.with_filter(filter.or(of_trail))).init();
    Ok((LogGuard { _writers: guards }, outputs))
}

type BoxedLayer = Box<dyn Layer<Registry> + Send + Sync>;
type SharedFilter = Arc<dyn Filter<Registry> + Send + Sync>;

/// The log and the trails as one layer. A filter of each would look up a span three times whenever
/// a task enters or leaves it.
struct Layers {
    log: BoxedLayer,
    /// Filter of the log.
    filter: SharedFilter,
    /// The trails, with the targets of their events.
    trails: Vec<(&'static str, BoxedLayer)>,
}

impl Layer<Registry> for Layers {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, Registry>) {
        self.log.on_new_span(attributes, id, context);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, Registry>) {
        self.log.on_record(id, values, context);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, Registry>) {
        let metadata = event.metadata();
        let trail = self.trails.iter().find(|(target, _)| *target == metadata.target());
        if let Some((_, trail)) = trail {
            trail.on_event(event, context.clone());
        }
        // An event that belongs to no trail has passed the filter of the log.
        if trail.is_none() || self.filter.enabled(metadata, &context) {
            self.log.on_event(event, context);
        }
    }
}

/// Formats the fields of a text line. Leaves `why` out if the message contains it, so that no sentence
/// stands twice in a line.
struct TextFields;

impl<'w> FormatFields<'w> for TextFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'w>, fields: R) -> std::fmt::Result {
        let visitor = DefaultVisitor::new(writer, true);
        let mut visitor = TextVisitor { fields: visitor, message: String::new() };
        fields.record(&mut visitor);
        visitor.fields.finish()
    }
}

/// Visits the fields of an event, of which the message is the first.
struct TextVisitor<'w> {
    fields: DefaultVisitor<'w>,
    message: String,
}

impl Visit for TextVisitor<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() != "why" || !self.message.contains(value) {
            self.fields.record_str(field, value);
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.fields.record_error(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            "why" if self.message.contains(&format!("{value:?}")) => return,
            _ => {}
        }
        self.fields.record_debug(field, value);
    }
}

/// Writes each event as one line. Escapes characters that could start another line, as JSON does.
#[derive(Clone)]
struct OneLineWriter {
    lines: NonBlockingWriter,
    /// Whether escape characters of the formatter are allowed. The formatter escapes those in
    /// values itself.
    colored: bool,
}

impl Write for OneLineWriter {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        self.lines.write_all(&one_line(event, self.colored))?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.lines.flush()
    }
}

impl<'a> MakeWriter<'a> for OneLineWriter {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Returns an event as one line.
fn one_line(event: &[u8], colored: bool) -> Cow<'_, [u8]> {
    let text = event.strip_suffix(b"\n").unwrap_or(event);
    let text = String::from_utf8_lossy(text);
    let must_escape = |c: char| needs_escape(c) && !(colored && c == '\u{1b}');
    if !text.contains(must_escape) {
        return Cow::Borrowed(event);
    }
    let mut line = String::with_capacity(event.len() + 16);
    for c in text.chars() {
        if must_escape(c) { line.extend(c.escape_default()) } else { line.push(c) }
    }
    line.push('\n');
    Cow::Owned(line.into_bytes())
}

fn no_thread(e: io::Error) -> Faults {
    Faults(vec![Fault::of(Path::new("log"), format!("cannot start a thread: {e}"))])
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
