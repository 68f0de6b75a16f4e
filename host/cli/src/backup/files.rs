//! Files of a backup. The folders of the state belong to the gateway, and root may run the commands: no
//! link in them is followed.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, mkdirat, openat, renameat, unlinkat};
use rustix::io::Errno;
use saegis_policy::Shown;

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const NEW_FILE: OFlags = OFlags::WRONLY
    .union(OFlags::CREATE)
    .union(OFlags::EXCL)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Opens a file of the operator, which can be a link.
pub fn open(path: &Path) -> io::Result<File> {
    regular(OpenOptions::new().read(true).custom_flags(flags(OFlags::NONBLOCK)).open(path)?)
}

/// Opens a file of the state. Fails for a link.
pub fn open_itself(path: &Path) -> io::Result<File> {
    let itself = flags(OFlags::NONBLOCK.union(OFlags::NOFOLLOW));
    let opened = OpenOptions::new().read(true).custom_flags(itself).open(path);
    regular(opened.map_err(no_link)?)
}

/// Opens a folder of the state. Fails for a link.
pub fn open_folder(path: &Path) -> io::Result<File> {
    let opened = rustix::fs::open(path, FOLDER.union(OFlags::NOFOLLOW), Mode::empty());
    opened.map(File::from).map_err(|e| no_link(e.into()))
}

/// Opens a file in a folder of the state. Fails for a link.
pub fn open_in(folder: &File, name: &Path) -> io::Result<File> {
    let itself = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = openat(folder, name, itself, Mode::empty());
    regular(opened.map(File::from).map_err(|e| no_link(e.into()))?)
}

/// Creates a file that only its owner can read.
pub fn create_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// Returns the absolute path of a file. A link in its place is not followed.
pub fn located(path: &Path) -> io::Result<PathBuf> {
    let no_file = || io::Error::other("not the path of a file");
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new(".")).canonicalize()?;
    Ok(folder.join(path.file_name().ok_or_else(no_file)?))
}

/// Returns the permissions of a restored file.
pub fn permissions(meta: &fs::Metadata) -> Permissions {
    Permissions::from_mode(meta.mode() & 0o777)
}

/// Restores a file to a path in a folder, with its permissions, and as root with its owner. Replaces
/// a link instead of the file to which it leads. Fails if a folder on the path is a link.
pub fn put(from: &File, folder: &Path, path: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let mut at = File::from(rustix::fs::open(folder, FOLDER, Mode::empty())?);
    let meta = from.metadata()?;
    let give = |file: &File| match rustix::process::geteuid().is_root() {
        true => fchown(file, Some(meta.uid()), Some(meta.gid())),
        false => Ok(()),
    };
    for part in path.parent().into_iter().flat_map(Path::components) {
        let created = match mkdirat(&at, part.as_os_str(), Mode::from_raw_mode(0o750)) {
            Err(Errno::EXIST) => false,
            made => made.map(|()| true)?,
        };
        let next = openat(&at, part.as_os_str(), FOLDER.union(OFlags::NOFOLLOW), Mode::empty());
        at = next.map(File::from).map_err(|e| no_link(e.into()))?;
        if created {
            give(&at)?;
        }
    }
    let name = path.file_name().unwrap_or_default();
    // Hidden files are not loaded as modules or tables.
    let aside = format!(".{}.restored", name.to_string_lossy());
    // An interrupted command may have left it behind.
    match unlinkat(&at, &aside, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(e) => return Err(e.into()),
    }
    let mut new = File::from(openat(&at, &aside, NEW_FILE, Mode::from_raw_mode(0o600))?);
    let written = (|| {
        let mut content = from;
        io::copy(&mut content, &mut new)?;
        give(&new)?;
        new.set_permissions(permissions(&meta))?;
        new.sync_all()?;
        renameat(&at, &aside, &at, name)?;
        at.sync_all()
    })();
    if written.is_err() {
        // The error of the write is reported.
        let _ = unlinkat(&at, &aside, AtFlags::empty());
    }
    written
}

/// Returns whether a name is that of a file in an archive or among copies.
pub fn is_number(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit())
}

/// Returns the error of a file, for `map_err`.
pub fn of(path: &Path) -> impl FnOnce(io::Error) -> String + use<> {
    let shown = Shown(path).to_string();
    move |error| format!("{shown}: {error}")
}

fn regular(file: File) -> io::Result<File> {
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("not a regular file")) }
}

fn no_link(error: io::Error) -> io::Error {
    match Errno::from_io_error(&error) {
        Some(Errno::LOOP) => io::Error::other("is a symbolic link, and saegis does not follow it"),
        _ => error,
    }
}

#[expect(clippy::cast_possible_wrap, reason = "flags of the system")]
fn flags(flags: OFlags) -> i32 {
    flags.bits() as i32
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn restored_file_replaces_links_and_follows_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("source"), "new").unwrap();
        fs::set_permissions(path("source"), Permissions::from_mode(0o640)).unwrap();
        fs::write(path("private"), "private").unwrap();
        fs::create_dir(path("state")).unwrap();
        symlink(path("private"), path("state/audit.jsonl")).unwrap();
        symlink(path("private"), path("state/.audit.jsonl.restored")).unwrap();
        let restored =
            |to: &str| put(&open_itself(&path("source")).unwrap(), &path("state"), Path::new(to));
        restored("audit.jsonl").unwrap();
        assert_eq!(fs::read(path("private")).unwrap(), b"private");
        let meta = path("state/audit.jsonl").symlink_metadata().unwrap();
        assert!(meta.is_file() && meta.mode() & 0o777 == 0o640, "{meta:?}");
        // A new folder is created, and one that is a link is refused.
        restored("key-value/a.redb").unwrap();
        assert_eq!(fs::read(path("state/key-value/a.redb")).unwrap(), b"new");
        fs::create_dir(path("other")).unwrap();
        symlink(path("other"), path("state/link")).unwrap();
        restored("link/a").unwrap_err();
        assert_eq!(fs::read_dir(path("other")).unwrap().count(), 0);
        // Neither is read.
        symlink(path("private"), path("state/trail")).unwrap();
        open_itself(&path("state/trail")).unwrap_err();
        open_folder(&path("state/link")).unwrap_err();
    }
}
