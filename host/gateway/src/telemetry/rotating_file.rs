//! Private, bounded files of lines, rotated by size, and reopened after another program has rotated
//! them.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use saegis_policy::Shown;

/// Size up to which the end of a file is read at once, in bytes. Most lines are shorter.
const TYPICAL_LINE: u64 = 64 << 10;
/// Maximum length of a last line, in bytes. A file with a longer one has another format.
const MAX_LAST_LINE: u64 = 16 << 20;

/// Events about failures of a file.
pub struct FailureEvents {
    /// Content of the file.
    pub what: &'static str,
    /// Event when writing fails.
    pub failed: &'static str,
    /// Event when writing works again.
    pub resumed: &'static str,
}

/// A file of lines. After a failed write, such as on a full disk, each write tries again.
pub struct LineFile {
    path: PathBuf,
    told: &'static FailureEvents,
    size: u64,
    old_files: u64,
    open: Option<File>,
    failed: Arc<AtomicU64>,
    failing: bool,
}

impl LineFile {
    /// Opens or creates a file of at most `size` bytes. At most `old_files` rotated files stay
    /// beside it.
    ///
    /// # Errors
    /// Fails if it cannot be written.
    pub fn open(
        path: &Path,
        size: u64,
        old_files: u64,
        told: &'static FailureEvents,
    ) -> io::Result<Self> {
        let mut file = Self {
            path: path.into(),
            told,
            size,
            old_files,
            open: None,
            failed: Arc::default(),
            failing: false,
        };
        file.prepare(0)?;
        Ok(file)
    }

    /// Returns the counter of lines that could not be written.
    pub fn failed(&self) -> Arc<AtomicU64> {
        self.failed.clone()
    }

    /// Makes room for that many bytes. Returns the last line of the file, if it was incomplete and
    /// has been terminated.
    ///
    /// # Errors
    /// Fails if the file cannot be opened or rotated.
    pub fn prepare(&mut self, bytes: usize) -> io::Result<Option<Vec<u8>>> {
        if self.is_elsewhere() {
            self.open = None;
        }
        let torn = self.open_if_closed()?;
        let length = self.open.as_ref().map_or(Ok(0), |file| file.metadata().map(|m| m.len()))?;
        if length > 0 && length.saturating_add(bytes as u64) > self.size {
            // Without this, the size would not be bounded.
            self.rotate()?;
            self.open = None;
            self.open_if_closed()?;
        }
        Ok(torn)
    }

    /// Appends whole lines: all of them or, after an error, none.
    ///
    /// # Errors
    /// Fails if they cannot be written.
    pub fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let Some(mut file) = self.open.as_ref() else { return Err(io::ErrorKind::NotFound.into()) };
        let length = file.metadata()?.len();
        let written = file.write_all(lines);
        if written.is_err() {
            // If this fails too, the incomplete line is found when the file is opened again.
            let _ = file.set_len(length);
            self.open = None;
        }
        written
    }

    /// Counts lines that could not be written, and logs when this starts and ends.
    pub fn account(&mut self, written: io::Result<()>, lines: &[u8]) {
        match written {
            Ok(()) if self.failing => {
                self.failing = false;
                let lines = self.failed.load(Ordering::Relaxed);
                tracing::warn!(
                    event = self.told.resumed,
                    lines,
                    "{} is written again; lost {lines} lines",
                    self.told.what
                );
            }
            Ok(()) => {}
            Err(e) => {
                self.open = None;
                let lost = lines.iter().filter(|byte| **byte == b'\n').count();
                self.failed.fetch_add(lost as u64, Ordering::Relaxed);
                if !self.failing {
                    self.failing = true;
                    tracing::error!(
                        event = self.told.failed,
                        "cannot write {}: {}: {e}",
                        self.told.what,
                        Shown(&self.path)
                    );
                }
            }
        }
    }

    /// Returns whether the path names another file than the open one, or none, because the file was
    /// moved.
    fn is_elsewhere(&self) -> bool {
        let Some(file) = &self.open else { return false };
        let same = |own: fs::Metadata, there: fs::Metadata| {
            (own.dev(), own.ino()) == (there.dev(), there.ino())
        };
        !file.metadata().is_ok_and(|own| fs::metadata(&self.path).is_ok_and(|at| same(own, at)))
    }

    fn open_if_closed(&mut self) -> io::Result<Option<Vec<u8>>> {
        if self.open.is_some() {
            return Ok(None);
        }
        let folder = self.path.parent().filter(|p| !p.as_os_str().is_empty());
        DirBuilder::new().recursive(true).mode(0o700).create(folder.unwrap_or(Path::new(".")))?;
        let no_wait = rustix::fs::OFlags::NONBLOCK.bits();
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            // The lines contain addresses of peers and their requests.
            .mode(0o600)
            // Opening a pipe would block.
            .custom_flags(no_wait.cast_signed())
            .open(&self.path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("is not a regular file"));
        }
        let torn = end_torn_line(&file)?;
        self.open = Some(file);
        Ok(torn)
    }

    /// Renames `FILE` to `FILE.1`, the former one to `FILE.2` and so on. The last one is deleted.
    fn rotate(&self) -> io::Result<()> {
        for n in (1..self.old_files).rev() {
            match fs::rename(old_file(&self.path, n), old_file(&self.path, n + 1)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        fs::rename(&self.path, old_file(&self.path, 1))?;
        // The configured number may have been larger before.
        let mut too_many = old_files(&self.path).into_iter().filter(|(n, _)| *n > self.old_files);
        too_many.try_for_each(|(_, file)| fs::remove_file(file))
    }
}

/// Returns the name of the `n`th rotated file.
fn old_file(path: &Path, n: u64) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{n}"));
    name.into()
}

/// Returns the rotated files of a file, each with its number, the newest first.
fn old_files(newest: &Path) -> Vec<(u64, PathBuf)> {
    let folder = newest.parent().filter(|folder| !folder.as_os_str().is_empty());
    let entries = fs::read_dir(folder.unwrap_or(Path::new("."))).into_iter().flatten().flatten();
    let number = |name: &OsStr| {
        let name = name.as_encoded_bytes();
        let digits =
            name.strip_prefix(newest.file_name()?.as_encoded_bytes())?.strip_prefix(b".")?;
        std::str::from_utf8(digits).ok()?.parse().ok()
    };
    let numbers = entries.filter_map(|entry| number(&entry.file_name()));
    let files = numbers.map(|n| (n, old_file(newest, n)));
    let mut files: Vec<_> = files.filter(|(n, file)| *n > 0 && file.is_file()).collect();
    files.sort_unstable();
    files.dedup();
    files
}

/// Returns a file of lines and its existing rotated files, the oldest first.
pub fn with_old_files(newest: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = old_files(newest).into_iter().map(|(_, file)| file).rev().collect();
    files.extend(newest.is_file().then(|| newest.to_path_buf()));
    files
}

/// Reads the last line of a file without its line break, and whether it has one. Returns `None` for
/// an empty file.
///
/// # Errors
/// Fails if the file cannot be read, or if its last line is too long.
pub fn last_line(file: &File) -> io::Result<Option<(Vec<u8>, bool)>> {
    for bound in [TYPICAL_LINE, MAX_LAST_LINE] {
        match last_line_within(file, bound)? {
            Some((line, _)) if line.len() as u64 > bound => {}
            found => return Ok(found),
        }
    }
    Err(io::Error::other("has a last line that is too long: the file has another format; move it"))
}

/// Reads the last line from the end of a file. A line longer than the limit is truncated at its
/// start, to more bytes than the limit.
fn last_line_within(mut file: &File, bound: u64) -> io::Result<Option<(Vec<u8>, bool)>> {
    let length = file.metadata()?.len();
    let bound = bound + 2;
    file.seek(SeekFrom::Start(length.saturating_sub(bound)))?;
    let mut tail = Vec::new();
    file.take(bound).read_to_end(&mut tail)?;
    if tail.is_empty() {
        return Ok(None);
    }
    let ended = tail.last() == Some(&b'\n');
    if ended {
        tail.pop();
    }
    let start = tail.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    Ok(Some((tail.split_off(start), ended)))
}

/// Terminates an incomplete last line, left by a gateway that was killed, so that the next line is
/// complete.
fn end_torn_line(mut file: &File) -> io::Result<Option<Vec<u8>>> {
    match last_line(file)? {
        Some((line, false)) => {
            file.write_all(b"\n")?;
            Ok(Some(line))
        }
        Some((_, true)) | None => Ok(None),
    }
}

impl Write for LineFile {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        let written = self.prepare(lines.len()).and_then(|_| self.append(lines));
        self.account(written, lines);
        Ok(lines.len())
    }

    /// Closes a file that was moved.
    fn flush(&mut self) -> io::Result<()> {
        if self.is_elsewhere() {
            self.open = None;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLD: FailureEvents =
        FailureEvents { what: "the test", failed: "failed", resumed: "resumed" };

    fn text(path: &Path) -> String {
        fs::read_to_string(path).unwrap()
    }

    #[test]
    fn full_file_is_rotated_and_oldest_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines");
        let mut file = LineFile::open(&path, 10, 2, &TOLD).unwrap();
        for n in 0..9 {
            file.write_all(format!("line {n}\n").as_bytes()).unwrap();
        }
        assert_eq!(
            (text(&path), text(&old_file(&path, 2))),
            ("line 8\n".into(), "line 6\n".into())
        );
        assert!(!old_file(&path, 3).exists());
        let names = [old_file(&path, 2), old_file(&path, 1), path.clone()];
        assert_eq!(with_old_files(&path), names);
        // No file is skipped, whatever is missing before it or stands beside it.
        fs::remove_file(old_file(&path, 1)).unwrap();
        fs::write(old_file(&path, 7), "seven\n").unwrap();
        fs::write(folder.path().join("lines.07"), "another\n").unwrap();
        fs::write(folder.path().join("lines.2.gz"), "another\n").unwrap();
        let names = [old_file(&path, 7), old_file(&path, 2), path.clone()];
        assert_eq!(with_old_files(&path), names);
        // Exactly the configured number of files stays.
        file.write_all(b"line 9\n").unwrap();
        let names = [old_file(&path, 2), old_file(&path, 1), path.clone()];
        assert_eq!(with_old_files(&path), names);
        assert_eq!(text(&old_file(&path, 2)), "line 6\n", "nothing was there to take its name");
    }

    #[test]
    fn moved_or_replaced_file_gets_no_lines() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("lines"), folder.path().join("moved"));
        let mut file = LineFile::open(&path, 1000, 1, &TOLD).unwrap();
        file.write_all(b"one\n").unwrap();
        fs::rename(&path, &moved).unwrap();
        File::create(&path).unwrap();
        file.write_all(b"two\n").unwrap();
        assert_eq!((text(&moved), text(&path)), ("one\n".into(), "two\n".into()));
        fs::remove_file(&path).unwrap();
        file.flush().unwrap();
        assert!(file.open.is_none(), "a deleted file does not occupy the disk");
        file.write_all(b"three\n").unwrap();
        assert_eq!(text(&path), "three\n");
    }

    #[test]
    fn torn_line_is_terminated() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines");
        fs::write(&path, "one\nto").unwrap();
        let mut file = LineFile::open(&path, 1000, 1, &TOLD).unwrap();
        file.write_all(b"two\n").unwrap();
        assert_eq!(text(&path), "one\nto\ntwo\n");
        // A line may be longer than any that is written now.
        let long = format!("one\n{}", "x".repeat(100_000));
        fs::write(&path, &long).unwrap();
        let mut file = LineFile::open(&path, 1_000_000, 1, &TOLD).unwrap();
        file.write_all(b"two\n").unwrap();
        assert_eq!(text(&path), long + "\ntwo\n");
        fs::write(&path, "x".repeat((16 << 20) + 1)).unwrap();
        assert!(LineFile::open(&path, 1000, 1, &TOLD).is_err(), "it is no file of lines");
    }

    #[test]
    fn lines_lost_without_file_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines");
        let mut file = LineFile::open(&path, 1000, 1, &TOLD).unwrap();
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        file.write_all(b"one\ntwo\n").unwrap();
        assert_eq!(file.failed().load(Ordering::Relaxed), 2);
        assert!(LineFile::open(&path, 1000, 1, &TOLD).is_err());
    }
}
