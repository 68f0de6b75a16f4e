//! Files of lines that grow: private, bounded, and rotated by size.

use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use logroller::{LogRoller, LogRollerBuilder, Rotation, RotationSize};

/// How it is told that a file can't be written, or can again.
pub struct Told {
    /// What is written to it.
    pub what: &'static str,
    /// The event of its failing.
    pub failed: &'static str,
    /// The event of its being written again.
    pub resumed: &'static str,
}

/// A file of lines. When it can't be written, as on a full disk, it is tried anew with each line.
pub struct LineFile {
    path: PathBuf,
    told: &'static Told,
    size: u64,
    old_files: u64,
    roller: Option<LogRoller>,
    failed: Arc<AtomicU64>,
    failing: bool,
}

impl LineFile {
    /// Opens a file of at most `size` bytes, and makes it if it is not there; `old_files` are kept
    /// beside it.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn open(path: &Path, size: u64, old_files: u64, told: &'static Told) -> io::Result<Self> {
        let mut file = Self {
            path: path.into(),
            told,
            size,
            old_files,
            roller: None,
            failed: Arc::default(),
            failing: false,
        };
        file.roller = Some(file.roller()?);
        Ok(file)
    }

    /// The lines that it did not take.
    pub fn failed(&self) -> Arc<AtomicU64> {
        self.failed.clone()
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

    fn try_write(&mut self, line: &[u8]) -> io::Result<()> {
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
        roller.write_all(line)
    }
}

impl Write for LineFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self.try_write(line) {
            Ok(()) if self.failing => {
                self.failing = false;
                let lines = self.failed.load(Ordering::Relaxed);
                tracing::warn!(
                    event = self.told.resumed,
                    lines,
                    "{} is written again; {lines} lines of it are lost",
                    self.told.what
                );
            }
            Ok(()) => {}
            Err(e) => {
                self.roller = None;
                let lost = line.iter().filter(|byte| **byte == b'\n').count();
                self.failed.fetch_add(lost as u64, Ordering::Relaxed);
                if !self.failing {
                    self.failing = true;
                    tracing::error!(
                        event = self.told.failed,
                        "{} can't be written: {}: {e}",
                        self.told.what,
                        self.path.display()
                    );
                }
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.roller.as_mut().map_or(Ok(()), Write::flush)
    }
}
