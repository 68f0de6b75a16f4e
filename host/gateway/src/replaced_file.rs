//! Replaces a file of the operator atomically, and leaves its owner and permissions unchanged.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, FlockOperation, access, flock};
use rustix::io::Errno;

/// Replaces a file atomically. A reader sees either the old or the new file, even after a power
/// failure. A new file is readable by its owner, and by the group of the folder if that is another
/// one than the group of the current user.
///
/// # Errors
/// Fails if the new file cannot be written. The old file is then unchanged.
pub fn replace(file: &Path, text: &[u8]) -> io::Result<()> {
    let file = match file.canonicalize() {
        Err(e) if e.kind() == ErrorKind::NotFound => file.to_path_buf(),
        found => found?,
    };
    let no_file = || io::Error::other("not the path of a file");
    let (folder, name) = (folder_of(&file), file.file_name().ok_or_else(no_file)?);
    // Hidden files are not loaded as modules or tables.
    let aside = folder.join(format!(".{}.new", name.to_string_lossy()));
    let written = (|| {
        // One that an earlier process left behind may have other permissions.
        if let Err(e) = fs::remove_file(&aside)
            && e.kind() != ErrorKind::NotFound
        {
            return Err(e);
        }
        let mut new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
        let own = new.metadata()?;
        let (uid, gid, mode) = match fs::metadata(&file) {
            Ok(old) => (old.uid(), old.gid(), old.mode() & 0o777),
            Err(e) if e.kind() == ErrorKind::NotFound => {
                let gid = fs::metadata(&folder)?.gid();
                (own.uid(), gid, if gid == own.gid() { 0o600 } else { 0o640 })
            }
            Err(e) => return Err(e),
        };
        // The current user may not be the owner, such as root.
        if (own.uid(), own.gid()) != (uid, gid) {
            chown(&aside, Some(uid), Some(gid))?;
        }
        new.set_permissions(Permissions::from_mode(mode))?;
        new.write_all(text)?;
        new.sync_all()?;
        fs::rename(&aside, &file)?;
        File::open(&folder)?.sync_all()
    })();
    if written.is_err() {
        // The file may not exist.
        let _ = fs::remove_file(&aside);
    }
    written
}

/// Returns whether the folder of a file permits the current user to replace it.
pub fn is_replaceable(file: &Path) -> bool {
    let file = file.canonicalize().unwrap_or_else(|_| file.to_path_buf());
    access(folder_of(&file), Access::WRITE_OK | Access::EXEC_OK).is_ok()
}

/// Locks a folder against other commands that edit its files, for the lifetime of the value.
///
/// # Errors
/// Fails if the folder cannot be opened, with [`ErrorKind::WouldBlock`] if another command has locked it.
pub fn lock(folder: &Path) -> io::Result<File> {
    let lock = File::open(folder)?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(Errno::WOULDBLOCK) => {
            let what = "another command is editing its files; try again";
            Err(io::Error::new(ErrorKind::WouldBlock, what))
        }
        Err(e) => Err(e.into()),
    }
}

fn folder_of(file: &Path) -> PathBuf {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new(".")).to_path_buf()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_stay_and_new_file_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("table.csv");
        let mode = || fs::metadata(&file).unwrap().mode() & 0o777;
        replace(&file, b"one").unwrap();
        assert_eq!(mode(), 0o600);
        fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
        fs::write(folder.path().join(".table.csv.new"), "half").unwrap();
        replace(&file, b"two").unwrap();
        assert_eq!((mode(), fs::read(&file).unwrap()), (0o640, b"two".to_vec()));
        assert!(is_replaceable(&file) && is_replaceable(&folder.path().join("new.csv")));
        assert!(!is_replaceable(&folder.path().join("no/folder")));
        assert!(replace(&folder.path().join("no/folder"), b"new").is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        let _first = lock(folder.path()).unwrap();
        assert_eq!(lock(folder.path()).unwrap_err().kind(), ErrorKind::WouldBlock);
    }
}
