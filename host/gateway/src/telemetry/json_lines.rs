//! Format of the JSON lines of log and audit trails.
//!
//! A line has the members that the JSON format of `tracing-subscriber` gives it, in the same order.
//! That format parses the fields of all spans again for each line. This one stores the fields of a
//! span as they stand in a line.

use std::fmt::{self, Write};

use tracing::field::{Field, Visit};
use tracing::span::Record;
use tracing::{Event, Subscriber};
use tracing_log::NormalizeEvent as _;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

/// Writes an event as a JSON object in one line.
pub struct JsonLines {
    /// Whether a line has the target and the spans.
    has_context: bool,
}

impl JsonLines {
    /// Returns the format of the log.
    pub fn of_log() -> Self {
        Self { has_context: true }
    }

    /// Returns the format of the trails.
    pub fn of_trail() -> Self {
        Self { has_context: false }
    }
}

impl<S> FormatEvent<S, JsonFields> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let normalized = event.normalized_metadata();
        let metadata = normalized.as_ref().unwrap_or_else(|| event.metadata());
        writer.write_str("{\"timestamp\":\"")?;
        SystemTime.format_time(&mut writer)?;
        write!(writer, "\",\"level\":\"{}\"", metadata.level())?;
        Members::after(true, &mut writer).record(event)?;
        if self.has_context {
            writer.write_str(",\"target\":\"")?;
            Escaped(&mut writer).write_str(metadata.target())?;
            writer.write_char('"')?;
            if let Some(scope) = context.event_scope() {
                writer.write_str(",\"spans\":[")?;
                for (number, span) in scope.from_root().enumerate() {
                    writer.write_str(if number == 0 { "{" } else { ",{" })?;
                    if let Some(fields) = span.extensions().get::<FormattedFields<JsonFields>>()
                        && !fields.is_empty()
                    {
                        write!(writer, "{fields},")?;
                    }
                    write!(writer, "\"name\":\"{}\"}}", span.name())?;
                }
                writer.write_char(']')?;
            }
        }
        writer.write_str("}\n")
    }
}

/// Formats the fields of a span as members of a JSON object, without its braces. A field must not be
/// recorded twice.
pub struct JsonFields;

impl<'w> FormatFields<'w> for JsonFields {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'w>, fields: R) -> fmt::Result {
        Members::after(false, &mut writer).record(fields)
    }

    fn add_fields(
        &self,
        current: &'w mut FormattedFields<Self>,
        fields: &Record<'_>,
    ) -> fmt::Result {
        let has_others = !current.is_empty();
        Members::after(has_others, &mut current.as_writer()).record(fields)
    }
}

/// Writes fields as members of a JSON object.
struct Members<'a, 'w> {
    writer: &'a mut Writer<'w>,
    has_others: bool,
    written: fmt::Result,
}

impl<'a, 'w> Members<'a, 'w> {
    fn after(has_others: bool, writer: &'a mut Writer<'w>) -> Self {
        Self { writer, has_others, written: Ok(()) }
    }

    fn record(mut self, fields: impl RecordFields) -> fmt::Result {
        fields.record(&mut self);
        self.written
    }

    fn member(&mut self, field: &Field, value: impl FnOnce(&mut Writer<'w>) -> fmt::Result) {
        if self.written.is_err() {
            return;
        }
        let comma = if self.has_others { "," } else { "" };
        self.has_others = true;
        self.written =
            write!(self.writer, "{comma}\"{}\":", field.name()).and_then(|()| value(self.writer));
    }

    fn text(&mut self, field: &Field, text: fmt::Arguments<'_>) {
        self.member(field, |writer| {
            writer.write_char('"')?;
            Escaped(writer).write_fmt(text)?;
            writer.write_char('"')
        });
    }
}

impl Visit for Members<'_, '_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        // Null if it is not finite.
        self.member(field, |writer| write!(writer, "{}", serde_json::Value::from(value)));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.member(field, |writer| write!(writer, "{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.member(field, |writer| write!(writer, "{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.member(field, |writer| write!(writer, "{value}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field, format_args!("{value:?}"));
    }
}

/// Escapes text for a JSON string.
struct Escaped<'a, 'w>(&'a mut Writer<'w>);

impl Write for Escaped<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.bytes().position(|b| b < 0x20 || b == b'"' || b == b'\\') {
            // These are characters of one byte.
            let (plain, special) = rest.split_at(at);
            self.0.write_str(plain)?;
            let (special, after) = special.split_at(1);
            match special {
                "\"" => self.0.write_str("\\\"")?,
                "\\" => self.0.write_str("\\\\")?,
                "\n" => self.0.write_str("\\n")?,
                "\r" => self.0.write_str("\\r")?,
                "\t" => self.0.write_str("\\t")?,
                "\u{8}" => self.0.write_str("\\b")?,
                "\u{c}" => self.0.write_str("\\f")?,
                control => {
                    for byte in control.bytes() {
                        write!(self.0, "\\u{byte:04x}")?;
                    }
                }
            }
            rest = after;
        }
        self.0.write_str(rest)
    }
}

#[cfg(test)]
#[path = "json_lines_tests.rs"]
mod tests;
