//! Files that only their owner can access, and that are replaced atomically.

use std::fs::{File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Replaces a file with one that only its owner can read. A reader finds either the old or the new
/// content. After this returns, the new file survives a power failure.
///
/// # Errors
/// Fails if it cannot be written. Then the old file is unchanged; but if only syncing the folder
/// failed, a power failure may lose the new file.
pub fn replace(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let opened = File::open(folder)?;
    let mut new = tempfile::Builder::new();
    let mut new =
        new.prefix(".new-").permissions(Permissions::from_mode(0o600)).tempfile_in(folder)?;
    new.write_all(bytes)?;
    new.as_file().sync_all()?;
    new.persist(file)?;
    // Without this, the folder may still name the old file after a power failure.
    opened.sync_all()
}

#[cfg(test)]
mod tests {
    use std::fs;

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
    }
}
