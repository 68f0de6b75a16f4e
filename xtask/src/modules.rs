//! Builds the policy modules and converts them to components.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{
    process::run,
    project::{self, Project},
    toolchain::{TARGET, Toolchain},
};

/// Modules that are instantiated for each decision, so their size is paid each time. A module above
/// the limit has probably pulled in formatting or panic machinery.
const SMALL_MODULES: &[&str] =
    &["psk-table", "certificate-table", "originator-check", "psk-derived"];
const SMALL_LIMIT: usize = 40 * 1024;

/// A member of the guest workspace that becomes a component.
#[derive(Debug, PartialEq, Eq)]
struct Module {
    name: String,
    /// Name of the library, which is that of cargo's output file.
    library: String,
    /// Whether the module is shipped, or is an example.
    ships: bool,
}

/// Builds each policy module. All go to the folder of components; the shipped ones also go to
/// `out`, or to the folder that the gateway of this checkout reads.
///
/// `locked` is for tests of a committed lock file. Otherwise the build of a new module adds it to
/// the lock file.
pub fn build(project: &Project, out: Option<&Path>, locked: bool) -> Result<()> {
    if !project.guests.join("Cargo.toml").is_file() {
        bail!("{} has no Cargo.toml", project.guests.display());
    }
    let toolchain = Toolchain::ready()?;
    let modules = members(&project::metadata(project.guest_cargo(), &project.guests)?)?;

    let built = project.guest_target.join(TARGET);
    let patience = if built.is_dir() { "" } else { "; the first time takes minutes" };
    println!("Building the policy modules with {}{patience}", toolchain.name());
    let mut cargo = toolchain.cargo_build(project);
    cargo.arg("--lib").args(locked.then_some("--locked"));
    for module in &modules {
        cargo.args(["--package", &module.name]);
    }
    run(&mut cargo)?;

    let built = built.join("release");
    componentize(project, &built, &modules)?;
    let components = modules
        .iter()
        .map(|module| {
            let component = component_of(&built, module);
            let component = fs::read(&component)
                .with_context(|| format!("cannot read {}", component.display()))?;
            check_size(&module.name, component.len())?;
            Ok((module, component))
        })
        .collect::<Result<Vec<_>>>()?;

    let shipped = match out {
        Some(folder) => folder.to_owned(),
        None => project.root.join("policies/modules"),
    };
    for (module, component) in &components {
        put(&project.components(), &module.name, component)?;
        if module.ships {
            put(&shipped, &module.name, component)?;
        }
        let kind = if module.ships { "ships" } else { "example" };
        println!("{:>9} bytes  {} ({kind})", component.len(), module.name);
    }
    println!("The shipped modules are in {}", shipped.display());
    println!("All modules are in {}", project.components().display());
    Ok(())
}

/// Reads the members that become components, and which of them are shipped.
fn members(metadata: &Value) -> Result<Vec<Module>> {
    let shipped = metadata
        .pointer("/metadata/saegis/shipped")
        .and_then(Value::as_array)
        .context("guest-modules/Cargo.toml has no list workspace.metadata.saegis.shipped")?;
    let mut modules = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let library = package["targets"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|target| {
                target["crate_types"]
                    .as_array()
                    .is_some_and(|types| types.iter().any(|kind| kind == "cdylib"))
            })
            .and_then(|target| target["name"].as_str());
        if let (Some(name), Some(library)) = (package["name"].as_str(), library) {
            modules.push(Module {
                name: name.to_owned(),
                library: library.replace('-', "_"),
                ships: shipped.iter().any(|listed| listed == name),
            });
        }
    }
    let unknown = |listed: &&Value| !modules.iter().any(|module| *listed == &module.name);
    if let Some(listed) = shipped.iter().find(unknown) {
        bail!(
            "guest-modules/Cargo.toml lists {listed} as shipped, but no member is a cdylib of that name"
        );
    }
    if modules.is_empty() {
        bail!("no member of guest-modules/Cargo.toml is a cdylib");
    }
    modules.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(modules)
}

/// Converts the outputs of cargo to components beside them. The program for it is built first: this
/// one is built before every task, and does without its dependencies.
fn componentize(project: &Project, built: &Path, modules: &[Module]) -> Result<()> {
    let mut cargo = project.host_cargo();
    cargo.args(["run", "--quiet", "--locked", "--package", "saegis-componentize", "--"]);
    for module in modules {
        cargo.arg(built.join(format!("{}.wasm", module.library)));
        cargo.arg(component_of(built, module));
    }
    run(&mut cargo)
}

/// Returns the path of a component beside the output of cargo.
fn component_of(built: &Path, module: &Module) -> PathBuf {
    built.join(format!("{}.component.wasm", module.library))
}

fn check_size(name: &str, size: usize) -> Result<()> {
    if SMALL_MODULES.contains(&name) && size >= SMALL_LIMIT {
        bail!(
            "policy module {name} has {size} bytes; it must stay below {SMALL_LIMIT}, see what it \
             pulls in"
        );
    }
    Ok(())
}

/// Writes a component into a folder atomically, and only if it differs. A running gateway watches
/// the folder, and loads each change as a new generation.
fn put(folder: &Path, name: &str, component: &[u8]) -> Result<()> {
    let path = folder.join(format!("{name}.wasm"));
    // Without the extension .wasm, so that a gateway does not load it.
    let temporary = folder.join(format!(".{name}.{}.tmp", process::id()));
    let write = || -> io::Result<()> {
        fs::create_dir_all(folder)?;
        if is_there(&path, component)? {
            return Ok(());
        }
        fs::write(&temporary, component)?;
        fs::rename(&temporary, &path)
    };
    write().with_context(|| {
        // Best effort, because the first error counts.
        fs::remove_file(&temporary).ok();
        format!("cannot write {}", path.display())
    })
}

fn is_there(path: &Path, component: &[u8]) -> io::Result<bool> {
    match fs::read(path) {
        Ok(present) => Ok(present == component),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use serde_json::json;

    use super::*;

    fn workspace(shipped: Value) -> Value {
        json!({
            "metadata": { "saegis": { "shipped": shipped } },
            "packages": [
                {
                    "name": "psk-table",
                    "targets": [{ "name": "psk_table", "crate_types": ["cdylib", "rlib"] }],
                },
                { "name": "shared", "targets": [{ "name": "shared", "crate_types": ["lib"] }] },
                {
                    "name": "allow-all",
                    "targets": [
                        { "name": "tool", "crate_types": ["bin"] },
                        { "name": "allow-all", "crate_types": ["cdylib"] },
                    ],
                },
            ],
        })
    }

    #[test]
    fn cdylib_packages_are_modules() {
        let modules = members(&workspace(json!(["psk-table"]))).unwrap();
        let expected = [("allow-all", "allow_all", false), ("psk-table", "psk_table", true)];
        assert_eq!(
            modules,
            expected.map(|(name, library, ships)| Module {
                name: name.to_owned(),
                library: library.to_owned(),
                ships,
            })
        );
    }

    #[test]
    fn shipped_name_must_be_module() {
        for listed in ["shared", "psk_table"] {
            let error = members(&workspace(json!([listed]))).unwrap_err();
            assert!(error.to_string().contains(listed), "{error}");
        }
        let error = members(&json!({ "packages": [] })).unwrap_err();
        assert!(error.to_string().contains("saegis.shipped"), "{error}");
    }

    #[test]
    fn size_limit_applies_to_small_modules() {
        check_size("psk-table", SMALL_LIMIT - 1).unwrap();
        check_size("python-example", SMALL_LIMIT * 400).unwrap();
        let error = check_size("psk-table", SMALL_LIMIT).unwrap_err();
        assert!(error.to_string().contains("40960"), "{error}");
    }

    #[test]
    fn unchanged_component_is_not_rewritten() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("new");
        let path = folder.join("m.wasm");
        let inode = || fs::metadata(&path).unwrap().ino();

        put(&folder, "m", b"one").unwrap();
        let first = inode();
        put(&folder, "m", b"one").unwrap();
        assert_eq!(inode(), first);
        put(&folder, "m", b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    }

    #[test]
    fn failed_write_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("m.wasm")).unwrap();
        let error = put(folder.path(), "m", b"one").unwrap_err();
        assert!(error.to_string().contains("m.wasm"), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
