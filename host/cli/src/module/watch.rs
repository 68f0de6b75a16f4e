//! `saegis module watch`: builds, tests and installs a module whenever its source changes.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use saegis_gateway::admin::reloaded::Reloaded;
use saegis_gateway::config::Config;
use saegis_policy::Shown;

use super::error::ModuleError;
use crate::admin;
use crate::output::print;

/// Arguments of `saegis module watch`.
#[derive(clap::Args)]
pub struct Args {
    /// Folder of the module, as `saegis module new` creates it
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// Configuration of a gateway of your own, into which the module is installed
    #[arg(long)]
    config: PathBuf,
}

/// Interval of the checks for changed files.
const INTERVAL: Duration = Duration::from_millis(300);

/// Folders that a build writes.
const BUILT: [&str; 3] = ["target", "node_modules", "__pycache__"];

/// Maximum number of watched files. A module has about twenty.
const MAX_FILES: usize = 2000;

/// Builds, tests and installs the module at the start and after each change, until it is interrupted.
///
/// # Errors
/// Fails if the folder is not that of a module, or the configuration is invalid.
pub async fn run(args: &Args) -> Result<(), ModuleError> {
    let config = Config::load(&args.config)?;
    let unusable = |why: String| ModuleError::Unusable { file: args.folder.clone(), why };
    let folder = args.folder.canonicalize().map_err(|e| unusable(e.to_string()))?;
    let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    for file in ["Makefile".into(), format!("{name}.toml")] {
        if !folder.join(&file).is_file() {
            return Err(unusable(format!(
                "has no {file}, so it is not the folder of a module named {name}"
            )));
        }
    }
    let mut built = BTreeMap::new();
    loop {
        // Listed before the build: a change during the build starts another one.
        let now = sources(&folder, &name).map_err(|e| unusable(e.to_string()))?;
        if now != built {
            built = now;
            match build_and_install(&folder, &name, &config) {
                Ok(outcome) => print(&outcome),
                Err(e) => print(&format!("not installed: {e}")),
            }
            print("waiting for a change");
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

fn build_and_install(folder: &Path, name: &str, config: &Config) -> io::Result<String> {
    if build(folder)? {
        install(folder, name, config)
    } else {
        Ok("not installed: the build or a test failed".into())
    }
}

/// Builds the module and runs its tests. Returns whether they passed.
fn build(folder: &Path) -> io::Result<bool> {
    let own = std::env::current_exe()?;
    let saegis = format!("SAEGIS={}", own.display());
    Ok(Command::new("make").arg("test").arg(saegis).current_dir(folder).status()?.success())
}

/// Copies manifest and module into the folder of the gateway, and lets it load them.
fn install(folder: &Path, name: &str, config: &Config) -> io::Result<String> {
    let modules = &config.modules.folder;
    // The module last: without its manifest it would be refused.
    for extension in ["toml", "wasm"] {
        let file = format!("{name}.{extension}");
        // A hidden file is not loaded.
        let aside = modules.join(format!(".{file}.new"));
        fs::copy(folder.join(&file), &aside)?;
        fs::rename(&aside, modules.join(&file))?;
    }
    Ok(match admin::reload(config, false) {
        Ok(Reloaded::InForce(generation)) => format!("{name} is in force: generation {generation}"),
        Ok(Reloaded::Refused(faults)) => format!("{faults}\nthe running gateway refused it"),
        Err(e) => format!("installed into {}; the gateway does not respond: {e}", Shown(modules)),
    })
}

/// Returns the files of a module and their times of change, without those that a build writes.
fn sources(folder: &Path, name: &str) -> io::Result<BTreeMap<PathBuf, SystemTime>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let is_output = file.ends_with(".wasm") || file == "Cargo.lock" || file == name;
            if file.starts_with('.') || is_output || BUILT.contains(&&*file) {
                continue;
            }
            // A file may be removed in the meantime, as editors do.
            let Ok(meta) = fs::metadata(&path) else { continue };
            if meta.is_dir() {
                folders.push(path);
            } else {
                found.insert(path, meta.modified()?);
            }
            if found.len() > MAX_FILES {
                return Err(io::Error::other(format!("has more than {MAX_FILES} files")));
            }
        }
    }
    Ok(found)
}
