//! Where log and audit trail are written: the log to standard error, the trail to a file as well.

use std::io::{self, IsTerminal as _, Write};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use logroller::{LogRoller, LogRollerBuilder, Rotation, RotationSize};
use saegis_policy::{Fault, Faults};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, fmt};

use crate::audit;
use crate::config::{Audit, Log, LogFormat};
use crate::lines::{Lines, Rest};

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
    let lines = match log.format {
        LogFormat::Text => lines.with_target(false).with_filter(filter).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_filter(filter).boxed(),
    };
    let trail = match &trail.file {
        None => None,
        Some(path) => {
            let file = TrailFile::open(path, trail).map_err(|e| {
                Faults(vec![Fault::of(path, format!("audit.file: can't be written: {e}"))])
            })?;
            let failed = file.failed.clone();
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

/// The audit trail's file. When it can't be written, as on a full disk, it is tried anew with what
/// comes next.
struct TrailFile {
    path: PathBuf,
    size: u64,
    old_files: u64,
    roller: Option<LogRoller>,
    failed: Arc<AtomicU64>,
    failing: bool,
}

impl TrailFile {
    fn open(path: &Path, trail: &Audit) -> io::Result<Self> {
        let mut file = Self {
            path: path.into(),
            size: trail.file_bytes,
            old_files: trail.old_files,
            roller: None,
            failed: Arc::default(),
            failing: false,
        };
        file.roller = Some(file.roller()?);
        Ok(file)
    }

    fn roller(&self) -> io::Result<LogRoller> {
        let no_file = || io::Error::other("it is no path of a file");
        let folder = self.path.parent().filter(|p| !p.as_os_str().is_empty());
        let name = self.path.file_name().ok_or_else(no_file)?;
        let folder = folder.unwrap_or(Path::new("."));
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        LogRollerBuilder::new(folder, Path::new(name))
            .rotation(Rotation::SizeBased(RotationSize::Bytes(self.size)))
            .max_keep_files(self.old_files)
            // Who spoke with whom is nobody else's business.
            .file_mode(0o600)
            .build()
            .map_err(io::Error::other)
    }

    fn try_write(&mut self, lines: &[u8]) -> io::Result<()> {
        // Somebody may have moved the file away.
        if !self.path.exists() {
            self.roller = None;
        }
        let roller = match &mut self.roller {
            Some(roller) => roller,
            None => {
                let roller = self.roller()?;
                self.roller.insert(roller)
            }
        };
        roller.write_all(lines)
    }
}

impl Write for TrailFile {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        match self.try_write(lines) {
            Ok(()) if self.failing => {
                self.failing = false;
                let lost = self.failed.load(Ordering::Relaxed);
                tracing::warn!(
                    event = "audit.resumed",
                    lines = lost,
                    "the audit trail is written again; {lost} lines of it are lost"
                );
            }
            Ok(()) => {}
            Err(e) => {
                self.roller = None;
                let lost = lines.iter().filter(|byte| **byte == b'\n').count();
                self.failed.fetch_add(lost as u64, Ordering::Relaxed);
                if !self.failing {
                    self.failing = true;
                    tracing::error!(
                        event = "audit.failed",
                        "the audit trail can't be written: {}: {e}",
                        self.path.display()
                    );
                }
            }
        }
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.roller.as_mut().map_or(Ok(()), Write::flush)
    }
}
