//! Copies of the stores of a running gateway. Root may run the command, and the gateway may be
//! compromised: its reply leads to the copies of its own stores only.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use saegis_gateway::admin::backup::{is_copy_folder, stores};
use saegis_gateway::admin::protocol::{BackupCopy, BackupReport};
use saegis_gateway::config::Config;
use saegis_policy::Shown;

use super::files::{self, is_number, of};

/// The copies in a checked reply. Their folder is removed when this is dropped.
pub struct Copies {
    folder: PathBuf,
    /// The stores with the names of their copies.
    stores: Vec<(PathBuf, PathBuf)>,
}

impl Drop for Copies {
    fn drop(&mut self) {
        // The gateway leaves the removal to its client, and removes the rest at the next backup.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Copies {
    /// Checks a reply.
    ///
    /// # Errors
    /// Fails if it names other files than copies in the state folder, or stores that the configuration
    /// does not name.
    pub fn check(reply: &BackupReport, config: &Config) -> Result<Self, String> {
        let foreign = |path: &Path| {
            let why = "has the configuration its state-folder?";
            format!("the gateway names {}, which is not a file of its backup; {why}", Shown(path))
        };
        let state = config.state_folder.clone().unwrap_or_default();
        let name = reply.folder.file_name().and_then(|name| name.to_str());
        let name = name.filter(|name| is_copy_folder(name));
        let folder = name.map(|name| state.join(name)).filter(|own| is_same(own, &reply.folder));
        let folder = folder.ok_or_else(|| foreign(&reply.folder))?;
        let known = stores(config);
        let mut found = Vec::new();
        for BackupCopy { path, copy } in &reply.copies {
            let store = known.iter().find(|store| is_same(store, path));
            let store = store.ok_or_else(|| foreign(path))?;
            let name = copy.strip_prefix(&reply.folder).ok();
            let name = name.filter(|name| name.to_str().is_some_and(is_number));
            found.push((store.clone(), name.ok_or_else(|| foreign(copy))?.to_path_buf()));
        }
        Ok(Self { folder, stores: found })
    }

    /// Opens the copies. Returns them with the paths of their stores.
    ///
    /// # Errors
    /// Fails if a copy cannot be opened, or is a link.
    pub fn open(&self) -> Result<Vec<(PathBuf, File)>, String> {
        let folder = files::open_folder(&self.folder).map_err(of(&self.folder))?;
        let open = |(store, name): &(PathBuf, PathBuf)| {
            let copy = files::open_in(&folder, name).map_err(of(&self.folder.join(name)))?;
            Ok((store.clone(), copy))
        };
        self.stores.iter().map(open).collect()
    }
}

/// Returns whether two paths name the same entry of the same folder.
fn is_same(one: &Path, other: &Path) -> bool {
    matches!((files::located(one), files::located(other)), (Ok(one), Ok(other)) if one == other)
}
