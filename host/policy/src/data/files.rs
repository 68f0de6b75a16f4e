//! Reads policy files: bounded, once, and with buffers that are wiped.
//!
//! A file is opened without blocking, and its type is checked on the descriptor. A check of the
//! path before the open could apply to another file, if the two were exchanged in between.

use std::collections::BTreeMap;
use std::fs::{File, FileType, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use sha2::{Digest as _, Sha256};
use zeroize::{Zeroize as _, Zeroizing};

use crate::data::disk::under_way;
use crate::data::fault::Fault;
use crate::data::shown::needs_escape;
use crate::data::text;

/// SHA-256 of a file.
pub(crate) type Digest = [u8; 32];

/// Number of bytes that one system call returns to the system.
const RETURNED_AT_ONCE: usize = 1 << 20;

/// Content of a file, which may include keys.
pub(crate) struct Source {
    pub bytes: Zeroizing<Vec<u8>>,
    pub digest: Digest,
    /// Whether every user of the machine can read it.
    pub exposed: bool,
}

/// Reads a file of at most `limit` bytes.
///
/// # Errors
/// Fails if the file cannot be read.
pub fn read_file(path: &Path, limit: u64) -> Result<Zeroizing<Vec<u8>>, Fault> {
    read(path, limit).map(|source| source.bytes)
}

/// Reads a text of at most `limit` bytes.
pub(crate) fn read_text(path: &Path, limit: u64) -> Result<String, Fault> {
    text_of(path, read(path, limit)?)
}

/// Reads a text of at most `limit` bytes. Returns `None` if the file does not exist.
pub(crate) fn read_text_if_there(path: &Path, limit: u64) -> Result<Option<String>, Fault> {
    read_if_there(path, limit)?.map(|source| text_of(path, source)).transpose()
}

fn text_of(path: &Path, source: Source) -> Result<String, Fault> {
    text::decode(path, &source.bytes).map(Into::into)
}

/// Reads a private key, which must not be readable for every user of the machine.
///
/// # Errors
/// Fails if the file cannot be read or is exposed.
pub fn read_private_key(path: &Path, limit: u64) -> Result<Zeroizing<Vec<u8>>, Fault> {
    read(path, limit)?.private().map(|source| source.bytes).map_err(|what| Fault::of(path, what))
}

impl Source {
    /// Checks that it may contain a private key.
    pub fn private(self) -> Result<Self, &'static str> {
        if self.exposed {
            return Err("is a private key that every user of the machine can read; chmod 600");
        }
        Ok(self)
    }

    /// Wipes the content and returns its memory to the system in small parts, because requests on the
    /// same core wait while a system call returns all of it.
    pub fn release(self) {
        let mut bytes = self.bytes;
        bytes.zeroize();
        while bytes.capacity() > RETURNED_AT_ONCE {
            let rest = bytes.capacity() - RETURNED_AT_ONCE;
            bytes.shrink_to(rest);
            if bytes.capacity() > rest {
                break;
            }
        }
    }
}

/// Reads a file of at most `limit` bytes.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Source, Fault> {
    read_within(None, path, limit)
}

/// Reads a file of at most `limit` bytes. If there is a folder, no link may lead out of it.
pub(crate) fn read_within(folder: Option<&Path>, path: &Path, limit: u64) -> Result<Source, Fault> {
    let missing = || Fault::of(path, "cannot be opened: there is no such file");
    read_if_there_within(folder, path, limit)?.ok_or_else(missing)
}

/// Reads a file of at most `limit` bytes. Returns `None` if it does not exist.
pub(crate) fn read_if_there(path: &Path, limit: u64) -> Result<Option<Source>, Fault> {
    read_if_there_within(None, path, limit)
}

/// Reads a file of at most `limit` bytes. If there is a folder, no link may lead out of it. Returns
/// `None` if the file does not exist.
///
/// A copied file has the protection of the folder, the target of a link does not. Links within the
/// folder are allowed: Kubernetes installs files this way.
pub(crate) fn read_if_there_within(
    folder: Option<&Path>,
    path: &Path,
    limit: u64,
) -> Result<Option<Source>, Fault> {
    under_way(path, || match open_regular(path) {
        Ok(file) => {
            if let Some(folder) = folder {
                check_within(folder, path, &file)?;
            }
            read_open(path, file, limit).map(Some)
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Fault::of(path, e.to_string())),
    })
}

/// Checks that an opened file is in the folder.
fn check_within(folder: &Path, path: &Path, file: &File) -> Result<(), Fault> {
    let unknown = |e: io::Error| Fault::of(path, format!("cannot be located: {e}"));
    let folder = folder.canonicalize().map_err(unknown)?;
    let descriptor = format!("/proc/self/fd/{}", file.as_raw_fd());
    if !std::fs::read_link(descriptor).map_err(unknown)?.starts_with(folder) {
        let what = "is a link to a file outside the folder; copy that file into the folder";
        return Err(Fault::of(path, what));
    }
    Ok(())
}

/// Opens a regular file for reading. A pipe without a writer or a file with a lease does not block.
///
/// # Errors
/// Fails if it cannot be opened or is not a regular file.
fn open_regular(path: &Path) -> io::Result<File> {
    let words = |e: io::Error, what: &str| io::Error::new(e.kind(), format!("{what}: {e}"));
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    // The flags of open(2), which fit.
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    let open = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = open.map_err(|e| match std::fs::symlink_metadata(path) {
        // A socket cannot be opened; the error of the system does not say so.
        Ok(meta) if meta.file_type().is_socket() => io::Error::other("is not a file but a socket"),
        _ => words(e, "cannot be opened"),
    })?;
    let meta = file.metadata().map_err(|e| words(e, "cannot be read"))?;
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
    let meta = file.metadata().map_err(|e| fault(format!("cannot be read: {e}")))?;
    let too_large = || fault(format!("is larger than {limit} bytes"));
    if meta.len() > limit {
        return Err(too_large());
    }
    // A single allocation, because growing would leave copies of keys behind.
    let capacity = usize::try_from(meta.len()).map_err(|_| too_large())?.saturating_add(1);
    let mut bytes = Zeroizing::new(Vec::with_capacity(capacity));
    let read = file.take(capacity as u64).read_to_end(&mut bytes);
    read.map_err(|e| fault(format!("cannot be read: {e}")))?;
    if bytes.len() as u64 > meta.len() {
        return Err(fault("grew while it was read; the next attempt follows".into()));
    }
    let digest = Sha256::digest(&*bytes).into();
    let exposed = meta.permissions().mode() & 0o004 != 0;
    Ok(Source { bytes, digest, exposed })
}

/// Lists the files of a folder with that extension, by their names without it. Hidden files are
/// skipped: editors and file copies create them temporarily.
pub(crate) fn list(
    folder: &Path,
    extension: &str,
    faults: &mut Vec<Fault>,
) -> BTreeMap<String, PathBuf> {
    let mut found = BTreeMap::new();
    let entries = match under_way(folder, || std::fs::read_dir(folder)) {
        Ok(entries) => entries,
        Err(e) => {
            faults.push(Fault::of(folder, format!("the folder cannot be read: {e}")));
            return found;
        }
    };
    for entry in entries {
        let path = match entry {
            Ok(entry) => entry.path(),
            Err(e) => {
                faults.push(Fault::of(folder, format!("the folder cannot be read: {e}")));
                continue;
            }
        };
        let stem = path.file_stem().and_then(|s| s.to_str()).unwrap_or_default();
        if path.extension().is_some_and(|e| e == extension) && !stem.starts_with('.') {
            if stem.is_empty() {
                faults.push(Fault::of(&path, "the file's name is not UTF-8"));
            } else if stem.contains(needs_escape) {
                // The name appears in logs, metrics and responses.
                let what = "the file name has a control character, or one that changes the text direction; \
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
        assert!(refusal(&at("none")).starts_with("cannot be opened: "));
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

    /// Reads a link that alternates quickly between a file and another target, until each has been
    /// found often.
    fn read_swapped(
        (file, other): (&Path, &Path),
        read: impl Fn(&Path) -> Result<Source, Fault>,
        refusal: &str,
    ) {
        use std::sync::atomic::{AtomicBool, Ordering};
        let folder = file.parent().unwrap();
        let name = folder.join("name");
        std::fs::write(file, "text").unwrap();
        std::os::unix::fs::symlink(file, &name).unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let aside = folder.join("aside");
                while !done.load(Ordering::Relaxed) {
                    for target in [other, file] {
                        std::os::unix::fs::symlink(target, &aside).unwrap();
                        std::fs::rename(&aside, &name).unwrap();
                    }
                }
            });
            let (mut files, mut refused) = (0, 0);
            while files < 200 || refused < 200 {
                match read(&name) {
                    Ok(source) => {
                        assert_eq!(source.bytes.as_slice(), b"text");
                        files += 1;
                    }
                    Err(fault) => {
                        assert_eq!(fault.what, refusal);
                        refused += 1;
                    }
                }
            }
            done.store(true, Ordering::Relaxed);
        });
    }

    #[test]
    fn swapped_in_pipe_does_not_block_reader() {
        let folder = tempfile::tempdir().unwrap();
        let (file, pipe) = (folder.path().join("file"), folder.path().join("pipe"));
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        read_swapped((&file, &pipe), |name| read(name, 100), "is not a file but a named pipe");
    }

    #[test]
    fn swapped_in_link_does_not_lead_out_of_folder() {
        let (folder, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (file, other) = (folder.path().join("file"), outside.path().join("other"));
        std::fs::write(&other, "secret").unwrap();
        let within =
            |name: &Path| read_if_there_within(Some(folder.path()), name, 100).map(Option::unwrap);
        let refusal = "is a link to a file outside the folder; copy that file into the folder";
        read_swapped((&file, &other), within, refusal);
    }
}
