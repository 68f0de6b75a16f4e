//! Finds the policy modules of Saegis.

use std::path::{Path, PathBuf};

/// The modules of a new gateway.
pub const SHIPPED: [&str; 3] = ["psk-table", "originator-check", "app-rules"];

/// The modules were not found.
#[derive(Debug, thiserror::Error)]
#[error(
    "the policy modules of Saegis ({}) are in none of these folders: {}; name their folder with --modules",
    SHIPPED.map(|name| format!("{name}.wasm")).join(", "),
    searched(.0)
)]
pub struct NoModules(Vec<PathBuf>);

fn searched(folders: &[PathBuf]) -> String {
    let shown = folders.iter().map(|folder| saegis_policy::Shown(folder).to_string());
    shown.collect::<Vec<_>>().join(", ")
}

/// Returns the folder with the modules: the given one, that of `SAEGIS_MODULES`, `modules` beside the
/// program, `share/saegis/modules` of its installation, `/usr/share/saegis/modules`, or `policies/modules` of the
/// repository in which it was built.
///
/// # Errors
/// Fails if none of them has all modules.
pub fn find(given: Option<&Path>) -> Result<PathBuf, NoModules> {
    let folders = match given {
        Some(given) => vec![given.to_path_buf()],
        None => candidates(),
    };
    let has_all = |folder: &&PathBuf| {
        SHIPPED.iter().all(|name| {
            ["wasm", "toml"].iter().all(|end| folder.join(format!("{name}.{end}")).is_file())
        })
    };
    match folders.iter().find(has_all) {
        Some(folder) => Ok(folder.clone()),
        None => Err(NoModules(folders)),
    }
}

fn candidates() -> Vec<PathBuf> {
    let mut folders = Vec::new();
    folders.extend(std::env::var_os("SAEGIS_MODULES").map(PathBuf::from));
    let program = std::env::current_exe().ok();
    if let Some(folder) = program.as_deref().and_then(Path::parent) {
        folders.push(folder.join("modules"));
        folders.extend(folder.parent().map(|up| up.join("share/saegis/modules")));
    }
    folders.push("/usr/share/saegis/modules".into());
    // Last: for a program in /usr/bin or /opt/bin this is a folder of others.
    let repository = program.as_deref().and_then(|program| program.ancestors().nth(3));
    folders.extend(repository.map(|repository| repository.join("policies/modules")));
    folders
}
