//! Checks at the start that files written by the gateway are private, including those of earlier
//! versions or of a wider umask. Files of the gateway lose the permissions of others. Files that
//! others could have written are rejected.

use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::process::geteuid;
use saegis_policy::{Fault, Faults};

use super::server_config::Config;

const GROUP_AND_OTHERS: u32 = 0o077;
const OTHERS: u32 = 0o007;
const WRITE_OF_OTHERS: u32 = 0o002;
const WRITE_OF_GROUP_AND_OTHERS: u32 = 0o022;
const STICKY: u32 = 0o1000;

/// A file or folder of the gateway that others can read.
#[derive(Debug, PartialEq, Eq)]
pub struct ExposedFile {
    path: PathBuf,
    mode: u32,
}

/// Removes the permissions of others from the files that a configuration names for writing, and
/// from the state folder. Returns the entries that others could read.
///
/// # Errors
/// Fails for entries that belong to another user or that others could write. Then nothing is
/// changed.
pub fn make_private(config: &Config) -> Result<Vec<ExposedFile>, Faults> {
    let exposed = inspect(config)?;
    for ExposedFile { path, mode } in &exposed {
        let private = fs::Permissions::from_mode(mode & !GROUP_AND_OTHERS);
        fs::set_permissions(path, private).map_err(|e| {
            Faults(vec![Fault::of(path, format!("other users can read it, and chmod fails: {e}"))])
        })?;
    }
    Ok(exposed)
}

/// Inspects the same files. Returns the entries that others can read.
///
/// # Errors
/// Fails for entries that belong to another user or that others could write.
pub fn inspect(config: &Config) -> Result<Vec<ExposedFile>, Faults> {
    let mut inspection = Inspection { own: geteuid().as_raw(), ..Inspection::default() };
    // The gateway executes the compiled code, so a group must not write there either.
    let code = &config.modules.code_cache;
    inspection.tree(code, WRITE_OF_GROUP_AND_OTHERS);
    let state = config.state_folder.clone().unwrap_or_default();
    for folder in [&state, &config.modules.key_value_folder, config.artifacts.store()] {
        inspection.tree(folder, WRITE_OF_OTHERS);
    }
    let mut folders = BTreeSet::new();
    for file in files(config) {
        inspection.entry(&file, fs::metadata(&file), WRITE_OF_OTHERS);
        folders.extend(file.parent().map(Path::to_path_buf));
    }
    folders.extend(config.admin.socket.parent().map(Path::to_path_buf));
    for folder in &folders {
        inspection.parent(folder);
    }
    let Inspection { exposed, faults, .. } = inspection;
    if faults.is_empty() { Ok(exposed) } else { Err(Faults(faults)) }
}

/// Returns the written files and their rotated files.
fn files(config: &Config) -> Vec<PathBuf> {
    let stores = [
        &config.cse.store,
        &config.ae_ids.store,
        &config.mqtt.store,
        &config.service_subscription.store,
    ];
    let of_maf = config.role.maf().map(|maf| &maf.store);
    let of_cse = config.upstream.as_ref().map(|cse| &cse.notification_key_file);
    let (audit, decisions) = (&config.audit, &config.decisions);
    let rotated = [audit.file.clone(), audit.refusals_file(), decisions.record.clone()];
    let mut files: Vec<_> = stores.into_iter().chain(of_maf).chain(of_cse).cloned().collect();
    for file in rotated.into_iter().flatten() {
        files.extend(generations(&file));
        files.push(file);
    }
    files
}

/// `FILE.1`, `FILE.2` and so on.
fn generations(file: &Path) -> Vec<PathBuf> {
    let (Some(folder), Some(name)) = (file.parent(), file.file_name()) else { return Vec::new() };
    let name = name.as_encoded_bytes();
    let is_one = |path: &Path| {
        let found = path.file_name().map(|found| found.as_encoded_bytes());
        found.and_then(|found| found.strip_prefix(name)).is_some_and(|rest| rest.starts_with(b"."))
    };
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| is_one(path)).collect()
}

#[derive(Default)]
struct Inspection {
    /// User that runs this process.
    own: u32,
    exposed: Vec<ExposedFile>,
    faults: Vec<Fault>,
}

impl Inspection {
    /// Inspects a folder and its content. Links in it do not lead to files of the gateway.
    fn tree(&mut self, root: &Path, refused: u32) {
        self.entry(root, fs::metadata(root), refused);
        let mut folders = vec![root.to_path_buf()];
        while let Some(folder) = folders.pop() {
            // A missing or unreadable folder is reported by the code that uses it.
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                let path = entry.path();
                let meta = entry.metadata();
                if meta.as_ref().is_ok_and(Metadata::is_dir) {
                    folders.push(path.clone());
                }
                if !meta.as_ref().is_ok_and(Metadata::is_symlink) {
                    self.entry(&path, meta, refused);
                }
            }
        }
    }

    /// Inspects a file or folder, to which others must not have had the permissions `refused`.
    fn entry(&mut self, path: &Path, meta: std::io::Result<Metadata>, refused: u32) {
        let meta = match meta {
            Ok(meta) => meta,
            // The code that uses it creates it, or reports the error.
            Err(_) => return,
        };
        let (owner, mode) = (meta.uid(), meta.mode() & 0o7777);
        if owner != self.own && owner != 0 {
            let (what, own) = ("belongs to another user, who can read and change it", self.own);
            return self.fault(path, format!("{what}: user {owner}; chown it to user {own}"));
        }
        // Root may share a file with the gateway through a group.
        let excess = if owner == self.own { GROUP_AND_OTHERS } else { OTHERS };
        if mode & refused != 0 {
            let what = "can be written by others, who may have changed it";
            let remedy = "check what is in it, then chmod go-rwx";
            self.fault(path, format!("{what}: mode {mode:03o}; {remedy}"));
        } else if mode & excess == 0 {
        } else if owner != self.own {
            let what = "belongs to root, and every user can read it";
            self.fault(path, format!("{what}: mode {mode:03o}; chmod o-rwx"));
        } else if !self.exposed.iter().any(|exposed| exposed.path == path) {
            self.exposed.push(ExposedFile { path: path.into(), mode });
        }
    }

    /// Inspects the folder of a store, which may have other content: no other user may be able to
    /// replace the store.
    fn parent(&mut self, folder: &Path) {
        // An empty path is the current folder.
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let Ok(meta) = fs::metadata(folder) else { return };
        let mode = meta.mode() & 0o7777;
        if mode & WRITE_OF_OTHERS != 0 && mode & STICKY == 0 {
            let what = "every user can replace the files in this folder";
            let remedy = "chmod o-w, or name another folder in the configuration";
            self.fault(folder, format!("{what}: mode {mode:03o}; {remedy}"));
        }
    }

    fn fault(&mut self, path: &Path, what: String) {
        // A folder can be the parent of several files.
        if !self.faults.iter().any(|fault| fault.file == path) {
            self.faults.push(Fault::of(path, what));
        }
    }
}

/// Logs the entries that others could read until now.
pub fn log(exposed: &[ExposedFile]) {
    for ExposedFile { path, mode } in exposed {
        tracing::warn!(
            event = "state.mode-changed",
            path = %saegis_policy::Shown(path),
            "removed the permissions of other users: the mode was {mode:03o} and is now {:03o}",
            mode & !GROUP_AND_OTHERS
        );
    }
}

#[cfg(test)]
#[path = "private_state_tests.rs"]
mod tests;
