//! The folders to which paths in a configuration are relative.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// First part of the paths in the state folder, and its default name.
const STATE: &str = "state";

/// The folder of a configuration, and the folder of all written files.
pub struct Folders {
    base: PathBuf,
    /// The state folder.
    pub state: PathBuf,
}

impl Folders {
    /// Returns the folders of a configuration file. `configured` is the option `state-folder`, and
    /// `directory` the environment variable `STATE_DIRECTORY`, which may list several folders.
    pub fn new(file: &Path, configured: Option<&Path>, directory: Option<OsString>) -> Self {
        let base = file.parent().unwrap_or(Path::new("")).to_path_buf();
        let directory = directory.and_then(|all| std::env::split_paths(&all).next());
        let directory = directory.filter(|first| first.is_absolute());
        let state = match (configured, directory) {
            (Some(configured), _) => base.join(configured),
            (None, Some(directory)) => directory,
            (None, None) => base.join(STATE),
        };
        Self { base, state }
    }

    /// Resolves a path.
    pub fn place(&self, path: &mut PathBuf) {
        *path = match path.strip_prefix(STATE) {
            Ok(rest) if !rest.as_os_str().is_empty() => self.state.join(rest),
            _ => self.base.join(&*path),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_folder_is_configured_or_that_of_the_service_manager() {
        let placed = |configured: Option<&str>, directory: Option<&str>, path: &str| {
            let file = Path::new("/etc/saegis/saegis.toml");
            let folders = Folders::new(file, configured.map(Path::new), directory.map(Into::into));
            let mut path = PathBuf::from(path);
            folders.place(&mut path);
            path.to_str().unwrap().to_string()
        };
        let var = Some("/var/lib/saegis:/var/lib/other");
        assert_eq!(placed(None, None, "state/cse.redb"), "/etc/saegis/state/cse.redb");
        assert_eq!(placed(None, var, "state/cse.redb"), "/var/lib/saegis/cse.redb");
        assert_eq!(placed(Some("/srv"), var, "state/a/b"), "/srv/a/b");
        assert_eq!(placed(Some("data"), var, "state/a"), "/etc/saegis/data/a");
        // A relative or empty variable is not that of systemd.
        for other in ["", "here"] {
            assert_eq!(placed(None, Some(other), "state/a"), "/etc/saegis/state/a");
        }
        // Other paths are relative to the configuration.
        for (path, at) in [("policies", "/etc/saegis/policies"), ("/srv/a", "/srv/a")] {
            assert_eq!(placed(None, var, path), at);
        }
        assert_eq!(placed(None, var, "state-of/a"), "/etc/saegis/state-of/a");
    }
}
