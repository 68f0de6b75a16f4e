//! Files that only their owner can access, and that are replaced atomically.

use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Replaces a file with one that only its owner can read. A reader finds either the old or the new
/// content. After this returns, the new file survives a power failure.
///
/// # Errors
/// Fails if it cannot be written. Then the old file is unchanged; but if only syncing the folder
/// failed, a power failure may lose the new file.
pub fn replace(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = folder_of(file);
    let opened = File::open(folder)?;
    remove_unfinished(file);
    let mut new = tempfile::Builder::new();
    let prefix = prefix_of(file);
    let mut new =
        new.prefix(&prefix).permissions(Permissions::from_mode(0o600)).tempfile_in(folder)?;
    new.write_all(bytes)?;
    new.as_file().sync_all()?;
    new.persist(file)?;
    // Without this, the folder may still name the old file after a power failure.
    opened.sync_all()
}

/// Removes what a process has left that ended while it replaced a file.
pub fn remove_unfinished(file: &Path) {
    let prefix = prefix_of(file);
    let entries = fs::read_dir(folder_of(file)).into_iter().flatten().flatten();
    let is_one = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        let random = name.strip_prefix(prefix.as_encoded_bytes());
        // The one of `FILE-…` has a further hyphen.
        random.is_some_and(|random| random.iter().all(u8::is_ascii_alphanumeric))
    };
    for unfinished in entries.map(|entry| entry.path()).filter(is_one) {
        // It does no harm, except that it occupies the disk.
        let _ = fs::remove_file(unfinished);
    }
}

fn folder_of(file: &Path) -> &Path {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}

/// Returns the prefix of the names of files that are to replace a file.
fn prefix_of(file: &Path) -> OsString {
    let mut prefix = OsString::from(".new-");
    prefix.push(file.file_name().unwrap_or_default());
    prefix.push("-");
    prefix
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_is_replaced_atomically_and_privately() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        replace(&file, b"new").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"new");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        // A folder at the path stays, and no other file is left behind.
        let taken = folder.path().join("taken");
        fs::create_dir_all(taken.join("inside")).unwrap();
        assert!(replace(&taken, b"new").is_err());
        assert!(replace(&folder.path().join("no/folder"), b"new").is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
        // Nor is one of an earlier process that was killed; that of another file stays.
        fs::write(folder.path().join(".new-key-abc"), "half").unwrap();
        for other in [".new-other-abc", ".new-key-other-abc"] {
            fs::write(folder.path().join(other), "half").unwrap();
        }
        replace(&file, b"newer").unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 4);
    }
}
