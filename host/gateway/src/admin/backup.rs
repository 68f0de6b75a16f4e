//! Copies of all stores while the gateway runs.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rand::RngExt as _;

use super::protocol::{BackupCopy, BackupReport};
use crate::config::Config;

/// First part of the name of a folder with copies. A number of 16 hexadecimal digits follows.
const PREFIX: &str = "backup-";

/// Returns whether a folder of the state folder has the name of one with copies.
pub fn is_copy_folder(name: &str) -> bool {
    let number = name.strip_prefix(PREFIX);
    number.is_some_and(|number| {
        number.len() == 16 && number.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// Copies the stores of a gateway into a new folder of the state folder. This blocks the thread.
/// Removes the copies of earlier backups, which an interrupted command may have left behind.
///
/// # Errors
/// Returns the reason if a store cannot be copied. Then nothing is left behind.
pub fn copy_stores(config: &Config) -> Result<BackupReport, String> {
    let of = |path: &Path| {
        let shown = saegis_policy::Shown(path).to_string();
        move |e: io::Error| format!("{shown}: {e}")
    };
    let state = config.state_folder.clone().unwrap_or_default();
    remove_copies(config);
    // The working folder of the command can be another one.
    let state = std::path::absolute(&state).map_err(of(&state))?;
    let folder = state.join(format!("{PREFIX}{:016x}", rand::rng().random::<u64>()));
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
    made.map_err(of(&folder))?;
    let copied = stores(config).into_iter().enumerate().map(|(number, path)| {
        let copy = folder.join(number.to_string());
        let failed = |e| format!("{}: {e}", saegis_policy::Shown(&path));
        saegis_store::copy(&path, &copy).map_err(failed)?;
        let path = std::path::absolute(&path).map_err(of(&path))?;
        Ok(BackupCopy { path, copy })
    });
    match copied.collect::<Result<Vec<_>, String>>() {
        Ok(copies) => Ok(BackupReport { folder, copies }),
        Err(why) => {
            // The error of the copy is reported.
            let _ = fs::remove_dir_all(&folder);
            Err(why)
        }
    }
}

/// Removes the copies of earlier backups.
pub fn remove_copies(config: &Config) {
    let state = config.state_folder.clone().unwrap_or_default();
    for entry in fs::read_dir(state).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(is_copy_folder) {
            // The next start or backup tries again.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Returns the existing files of the stores. The AE-IDs come before the resources: an AE that registers
/// in between is reconciled at the start.
pub fn stores(config: &Config) -> Vec<PathBuf> {
    let own = [&config.ae_ids.store, &config.cse.store, &config.mqtt.store].map(PathBuf::as_path);
    let maf = config.role.maf().map(|maf| maf.store.as_path());
    let modules = fs::read_dir(&config.modules.key_value_folder).into_iter().flatten().flatten();
    let modules = modules.map(|entry| entry.path());
    let modules = modules.filter(|path| path.extension().is_some_and(|end| end == "redb"));
    let all = own.into_iter().chain(maf).map(Path::to_path_buf).chain(modules);
    all.filter(|path| path.is_file()).collect()
}
