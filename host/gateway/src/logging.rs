//! The log: to standard error, as text or JSON.

use std::io::IsTerminal as _;

use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};

/// Starts the log. What the environment variable `SAEGIS_LOG` says has precedence.
///
/// Lines are written by a thread of their own, so that a slow reader of the log holds nothing up;
/// what it can't keep up with is dropped. Dropping the guard writes what is left.
pub fn start(log: &Log) -> WorkerGuard {
    let configured = log.filter.as_deref().unwrap_or("info");
    let filter = EnvFilter::try_from_env("SAEGIS_LOG")
        .or_else(|_| EnvFilter::try_new(configured))
        .unwrap_or_else(|_| EnvFilter::new("info"));
    let (writer, guard) = tracing_appender::non_blocking(std::io::stderr());
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_ansi(std::io::stderr().is_terminal());
    match log.format {
        LogFormat::Text => builder.with_target(false).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    guard
}
