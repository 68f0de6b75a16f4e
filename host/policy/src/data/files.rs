//! Reads policy files: bounded, once, and wiped afterwards.
//!
//! A file is opened without blocking and checked on its descriptor. A check of its name before the open
//! would be of another file, if somebody exchanged the two in between.

use std::collections::BTreeMap;
use std::fs::{File, FileType, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::data::disk::under_way;
use crate::data::fault::Fault;
use crate::data::shown::needs_escape;
use crate::data::text;

/// SHA-256 of a file.
pub(crate) type Digest = [u8; 32];

/// A file's bytes, which may hold keys.
pub(crate) struct Source {
    pub bytes: Zeroizing<Vec<u8>>,
    pub digest: Digest,
    /// Whether every user of the machine may read it.
    pub exposed: bool,
}

/// Makes sure that no link leads out of the folder: what is put into it by copying is under the
/// rights of the folder, and what a link leads to is not. A link within the folder will do, for
/// that is how Kubernetes puts files in place.
pub(crate) fn check_within(folder: &Path, path: &Path) -> Result<(), Fault> {
    let real = |path: &Path| match under_way(path, || path.canonicalize()) {
        Ok(real) => Ok(Some(real)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Fault::of(path, format!("can't be opened: {e}"))),
    };
    match (real(folder)?, real(path)?) {
        (Some(folder), Some(file)) if !file.starts_with(&folder) => {
            let what = "is a link to a file outside of the folder; copy that file into the folder";
            Err(Fault::of(path, what))
        }
        // Where there is nothing, whoever reads it says so.
        _ => Ok(()),
    }
}

/// Reads a file of at most `limit` bytes.
///
/// # Errors
/// Why it can't be read.
pub fn read_file(path: &Path, limit: u64) -> Result<Zeroizing<Vec<u8>>, Fault> {
    read(path, limit).map(|source| source.bytes)
}

/// Reads a text of at most `limit` bytes.
pub(crate) fn read_text(path: &Path, limit: u64) -> Result<String, Fault> {
    text_of(path, read(path, limit)?)
}

/// Reads a text of at most `limit` bytes; nothing, where there is none.
pub(crate) fn read_text_if_there(path: &Path, limit: u64) -> Result<Option<String>, Fault> {
    read_if_there(path, limit)?.map(|source| text_of(path, source)).transpose()
}

fn text_of(path: &Path, source: Source) -> Result<String, Fault> {
    text::decode(path, &source.bytes).map(Into::into)
}

/// Reads a file with a private key, which not every user of the machine may be able to read.
///
/// # Errors
/// Why it can't be read, or that it is exposed.
pub fn read_private_key(path: &Path, limit: u64) -> Result<Zeroizing<Vec<u8>>, Fault> {
    read(path, limit)?.private().map(|source| source.bytes).map_err(|what| Fault::of(path, what))
}

impl Source {
    /// The same, if it may hold a private key.
    pub fn private(self) -> Result<Self, &'static str> {
        if self.exposed {
            return Err("is a private key that every user of the machine may read; chmod 600");
        }
        Ok(self)
    }
}

/// Reads a file of at most `limit` bytes.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Source, Fault> {
    let missing = || Fault::of(path, "can't be opened: there is no such file");
    read_if_there(path, limit)?.ok_or_else(missing)
}

/// Reads a file of at most `limit` bytes; nothing, where there is none.
pub(crate) fn read_if_there(path: &Path, limit: u64) -> Result<Option<Source>, Fault> {
    under_way(path, || match open_regular(path) {
        Ok(file) => read_open(path, file, limit).map(Some),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Fault::of(path, e.to_string())),
    })
}

/// Opens a regular file for reading. Neither a pipe without a writer nor a file with a lease holds
/// this up.
///
/// # Errors
/// When it can't be opened, or is another kind of file.
fn open_regular(path: &Path) -> io::Result<File> {
    let words = |e: io::Error, what: &str| io::Error::new(e.kind(), format!("{what}: {e}"));
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    // The bits are those of open(2), which fit.
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    let open = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = open.map_err(|e| match std::fs::symlink_metadata(path) {
        // It would be opened by connecting to it; the system's own words do not say so.
        Ok(meta) if meta.file_type().is_socket() => io::Error::other("is not a file but a socket"),
        _ => words(e, "can't be opened"),
    })?;
    let meta = file.metadata().map_err(|e| words(e, "can't be read"))?;
    if !meta.is_file() {
        let kind = kind(meta.file_type());
        return Err(io::Error::other(format!("is not a file but a {kind}")));
    }
    Ok(file)
}

fn kind(of: FileType) -> &'static str {
    if of.is_dir() {
        "folder"
    } else if of.is_fifo() {
        "named pipe"
    } else {
        "device"
    }
}

fn read_open(path: &Path, file: File, limit: u64) -> Result<Source, Fault> {
    let fault = |what: String| Fault::of(path, what);
    let meta = file.metadata().map_err(|e| fault(format!("can't be read: {e}")))?;
    let too_large = || fault(format!("is larger than {limit} bytes"));
    if meta.len() > limit {
        return Err(too_large());
    }
    // One allocation, so that growing leaves no copy of a key behind.
    let capacity = usize::try_from(meta.len()).map_err(|_| too_large())?.saturating_add(1);
    let mut bytes = Zeroizing::new(Vec::with_capacity(capacity));
    let read = file.take(capacity as u64).read_to_end(&mut bytes);
    read.map_err(|e| fault(format!("can't be read: {e}")))?;
    if bytes.len() as u64 > meta.len() {
        return Err(fault("grew while it was read; it will be read again".into()));
    }
    let digest = Sha256::digest(&*bytes).into();
    let exposed = meta.permissions().mode() & 0o004 != 0;
    Ok(Source { bytes, digest, exposed })
}

/// The files of a folder with that extension, by name without it. Hidden files are nobody's: they
/// are what editors and file copies leave while they write.
pub(crate) fn list(
    folder: &Path,
    extension: &str,
    faults: &mut Vec<Fault>,
) -> BTreeMap<String, PathBuf> {
    let mut found = BTreeMap::new();
    let entries = match under_way(folder, || std::fs::read_dir(folder)) {
        Ok(entries) => entries,
        Err(e) => {
            faults.push(Fault::of(folder, format!("the folder can't be read: {e}")));
            return found;
        }
    };
    for entry in entries {
        let path = match entry {
            Ok(entry) => entry.path(),
            Err(e) => {
                faults.push(Fault::of(folder, format!("the folder can't be read: {e}")));
                continue;
            }
        };
        let stem = path.file_stem().and_then(|s| s.to_str()).unwrap_or_default();
        if path.extension().is_some_and(|e| e == extension) && !stem.starts_with('.') {
            if stem.is_empty() {
                faults.push(Fault::of(&path, "the file's name is not UTF-8"));
            } else if stem.contains(needs_escape) {
                // It is a name in logs, metrics and answers.
                let what = "the file's name has a character that begins a line or needs_escape a terminal; \
                            rename it";
                faults.push(Fault::of(&path, what));
            } else {
                found.insert(stem.to_string(), path);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::process::Command;

    use super::*;

    fn refusal(path: &Path) -> String {
        read(path, 100).err().map(|fault| fault.what).unwrap_or_default()
    }

    #[test]
    fn non_regular_file_is_refused_without_blocking() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("file"), "text").unwrap();
        std::os::unix::fs::symlink("file", at("link")).unwrap();
        assert_eq!(read(&at("link"), 4).ok().unwrap().bytes.as_slice(), b"text");
        assert!(refusal(&at("none")).starts_with("can't be opened: "));
        assert!(read_if_there(&at("none"), 100).ok().unwrap().is_none());
        std::os::unix::fs::symlink("none", at("dangling")).unwrap();
        assert!(read_if_there(&at("dangling"), 100).ok().unwrap().is_none());
        assert_eq!(refusal(folder.path()), "is not a file but a folder");
        assert_eq!(refusal(Path::new("/dev/null")), "is not a file but a device");
        assert!(Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
        assert_eq!(refusal(&at("pipe")), "is not a file but a named pipe");
        std::os::unix::fs::symlink("pipe", at("to-pipe")).unwrap();
        assert_eq!(refusal(&at("to-pipe")), "is not a file but a named pipe");
        let _socket = UnixListener::bind(at("socket")).unwrap();
        assert_eq!(refusal(&at("socket")), "is not a file but a socket");
    }

    /// A name that is a table at one moment and a pipe at the next, as often as can be.
    #[test]
    fn swapped_in_pipe_does_not_block_reader() {
        use std::sync::atomic::{AtomicBool, Ordering};
        let folder = tempfile::tempdir().unwrap();
        let (file, pipe, name) =
            (folder.path().join("file"), folder.path().join("pipe"), folder.path().join("name"));
        std::fs::write(&file, "text").unwrap();
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        std::os::unix::fs::symlink(&file, &name).unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let aside = folder.path().join("aside");
                while !done.load(Ordering::Relaxed) {
                    for target in [&pipe, &file] {
                        std::os::unix::fs::symlink(target, &aside).unwrap();
                        std::fs::rename(&aside, &name).unwrap();
                    }
                }
            });
            let (mut files, mut pipes) = (0, 0);
            while files < 200 || pipes < 200 {
                match read(&name, 100) {
                    Ok(_) => files += 1,
                    Err(fault) => {
                        assert_eq!(fault.what, "is not a file but a named pipe");
                        pipes += 1;
                    }
                }
            }
            done.store(true, Ordering::Relaxed);
        });
    }
}
