//! Files that are their owner's alone, and are replaced whole.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Puts a file there, readable by its owner alone, in the place of another: whoever reads it sees the one
/// or the other.
///
/// # Errors
/// When it can't be written; then the other is as it was.
pub fn replace(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let aside = file.with_extension("new");
    // What an earlier run left half done is in the way.
    let _ = fs::remove_file(&aside);
    let mut to = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
    to.write_all(bytes)?;
    to.sync_all()?;
    fs::rename(&aside, file)
}
