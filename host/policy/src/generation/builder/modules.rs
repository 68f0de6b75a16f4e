//! Loads the modules of a generation, each with its manifest and the files that it lists.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::runtime::Handle;

use crate::data::fault::Fault;
use crate::data::files;

use crate::decision::shadow::UnloadedShadow;
use crate::generation::generation::Generation;
use crate::generation::oci_artifacts::{self, PolicyFiles};
use crate::generation::removals::MissingFiles;
use crate::generation::replacement;
use crate::generation::settings::Settings;
use crate::host::call::{Files, Tables};
use crate::host::capabilities::IoCapabilities;
use crate::module::grants::Grants;
use crate::module::manifest::{Manifest, ManifestOf, load_manifest};
use crate::module::signature::{self, Required, Signed, Trust};
use crate::sandbox::engine::Sandbox;
use crate::sandbox::installed::{InstalledModule, reuse, tables_read};
use crate::sandbox::module::Module;

/// Modules on disk, and shadows that could not be loaded.
#[derive(Default)]
pub(super) struct Loaded {
    pub all: Vec<InstalledModule>,
    pub unloaded: Vec<UnloadedShadow>,
    /// Names of modules that have a manifest, or had one.
    pub with_manifest: BTreeSet<String>,
}

pub(super) fn load_modules(
    settings: &Settings,
    policies: &PolicyFiles<'_>,
    sandbox: &Arc<Sandbox>,
    (last, missing, tables): (Option<&Generation>, &mut MissingFiles<'_>, &Tables),
    runtime: &Handle,
    faults: &mut Vec<Fault>,
) -> Loaded {
    let mut loaded = Loaded::default();
    let trust = match settings.signatures.as_ref().map(Required::trust).transpose() {
        Ok(trust) => trust,
        Err(found) => {
            faults.extend(found);
            return loaded;
        }
    };
    let trust = trust.as_ref();
    let mut files = files::list(&settings.modules, "wasm", faults);
    // A manifest may name a module in a registry.
    for (name, manifest) in files::list(&settings.modules, "toml", &mut Vec::new()) {
        files.entry(name).or_insert(manifest);
    }
    files.extend(settings.changes.modules.clone());
    // Faults are reported in the order of the module names.
    let mut wrong = BTreeMap::new();
    let manifests = read_manifests(settings, &files, trust, missing, &mut wrong);
    let context = Context { settings, policies, trust, sandbox, last, runtime, tables };
    for (name, manifest) in &manifests.all {
        let Some(path) = files.get(name) else { continue };
        match install(&context, missing, &manifests, (name, path, manifest)) {
            Ok(one) => loaded.all.push(one),
            // A shadow has no effect, so its faults do not block a generation.
            Err(faults) if manifest.is_shadow() => {
                loaded.unloaded.push(UnloadedShadow { name: name.clone(), faults });
            }
            Err(found) => {
                wrong.insert(name.clone(), found);
            }
        }
    }
    loaded.with_manifest = manifests.present;
    faults.extend(wrong.into_values().flatten());
    loaded
}

/// The manifests of the modules that are on disk.
#[derive(Default)]
struct Manifests {
    /// That of each module; an empty one, where it has none.
    all: BTreeMap<String, Manifest>,
    /// The signatures of those that are signed.
    signatures: BTreeMap<String, Signed>,
    /// Names of modules that have a manifest, or had one.
    present: BTreeSet<String>,
}

fn read_manifests(
    settings: &Settings,
    files: &BTreeMap<String, PathBuf>,
    trust: Option<&Trust>,
    missing: &mut MissingFiles<'_>,
    wrong: &mut BTreeMap<String, Vec<Fault>>,
) -> Manifests {
    let mut manifests = Manifests::default();
    for (name, path) in files {
        let mut found = manifest_of(settings, name, path, trust);
        // A signature covers the file only: without its manifest, a signed module is rejected.
        if matches!(&found, Ok(None)) && !is_manifest(path) && trust.is_none() {
            let carried = missing.manifest(name, &path.with_extension("toml"));
            let carried = carried.map(|carried| carried.map(|manifest| (manifest, None)));
            found = carried.map_err(Vec::from);
        }
        if matches!(&found, Ok(Some(_))) {
            manifests.present.insert(name.clone());
        }
        match found.map(Option::unwrap_or_default) {
            // A manifest without a module is ignored.
            Ok((manifest, _)) if is_manifest(path) && manifest.source.is_none() => {}
            Ok((manifest, signed)) => {
                manifests.all.insert(name.clone(), manifest);
                manifests.signatures.extend(signed.map(|signed| (name.clone(), signed)));
            }
            Err(found) => {
                wrong.insert(name.clone(), found);
            }
        }
    }
    manifests
}

/// Loads a module, and gives it what it keeps of the last generation and of those that it replaces.
fn install(
    context: &Context<'_>,
    missing: &mut MissingFiles<'_>,
    manifests: &Manifests,
    (name, path, manifest): (&str, &Path, &Manifest),
) -> Result<InstalledModule, Vec<Fault>> {
    let &Context { settings, last, .. } = context;
    let lineage = replacement::replaced_names(name, &manifests.all)
        .map_err(|what| vec![Fault::of(&path.with_extension("toml"), what)])?;
    // A missing module has no grants to inherit.
    let there = lineage.iter().filter(|name| manifests.all.contains_key(*name));
    let of: Vec<_> = there.map(String::as_str).collect();
    let grants = settings.grants.with_heir(name, &of);
    let order = replacement::order(name, &lineage, &manifests.all);
    let signed = manifests.signatures.get(name).copied();
    let LoadedModule { module, files, signed, tables } =
        load_module(context, missing, (name, path, manifest), signed, &grants)?;
    let instances = reuse(&module, path, &grants)?;
    let last = last.and_then(|last| last.modules.iter().find(|i| i.module.name == name));
    let io = IoCapabilities::of(
        (name, path),
        &module.capabilities,
        &lineage,
        &grants,
        &settings.stores,
        last.map(|last| &*last.io),
    )?;
    let (io, instances) = (Arc::new(io), instances.map(Arc::new));
    Ok(InstalledModule { module, files, order, lineage, signed, tables, io, instances })
}

/// Inputs of loading a module.
struct Context<'a> {
    settings: &'a Settings,
    policies: &'a PolicyFiles<'a>,
    trust: Option<&'a Trust>,
    sandbox: &'a Arc<Sandbox>,
    last: Option<&'a Generation>,
    runtime: &'a Handle,
    tables: &'a Tables,
}

/// A loaded module, with its inputs.
struct LoadedModule {
    module: Arc<Module>,
    files: Arc<Files>,
    signed: Option<Signed>,
    /// The tables that it reads.
    tables: Vec<String>,
}

/// Loads a module from its file, or from the source in its manifest.
fn load_module(
    context: &Context<'_>,
    missing: &mut MissingFiles<'_>,
    (name, path, manifest): (&str, &Path, &Manifest),
    manifest_signed: Option<Signed>,
    grants: &Grants,
) -> Result<LoadedModule, Vec<Fault>> {
    let &Context { settings, policies, trust, sandbox, last, runtime, .. } = context;
    let (source, signed) = match &manifest.source {
        Some(_) if !is_manifest(path) => {
            let what = format!("has a source, but {name}.wasm exists too");
            return Err(vec![Fault::of(&path.with_extension("toml"), what)]);
        }
        // The reference contains a digest, and is signed with the manifest.
        Some(from) => {
            let source = oci_artifacts::read_module(settings, path, from)?;
            (source, manifest_signed)
        }
        None => {
            let limit = settings.limits.module_size;
            let source = files::read_within(folder_of(settings, name), path, limit)?;
            let signed = trust.map(|trust| signature::demand(path, &source.bytes, trust));
            let signed = signed.transpose()?;
            if signed.is_some() && manifest_signed.is_none() {
                // Otherwise removing the manifest would activate a shadow.
                let what = "has no manifest; a signed module needs a signed manifest";
                return Err(vec![Fault::of(path, what)]);
            }
            (source, signed)
        }
    };
    manifest.check_digest(path, &source.digest)?;
    let unchanged = last.and_then(|last| {
        let same = |m: &Arc<Module>| {
            // A grant may have ended: `replaces` of other modules has changed.
            let granted = manifest.capabilities.iter().all(|c| grants.allow(name, *c));
            m.name == name && m.digest == source.digest && m.manifest == *manifest && granted
        };
        last.all_modules().find(|m| same(m)).cloned()
    });
    let mut own_files = Files::new();
    for file in &manifest.files {
        // A module cannot read a file that exceeds its memory.
        let limit = settings.limits.memory as u64;
        let source = policies.read_if_there(file, limit)?;
        let content = match source {
            Some(source) => Some(Arc::from(source.bytes.as_slice())),
            None => missing.module_file(name, file, &policies.called(file)),
        };
        let content = match content {
            Some(content) => content,
            // This reports why it is missing.
            None => Arc::from(policies.read(file, limit)?.bytes.as_slice()),
        };
        own_files.insert(file.clone(), content);
    }
    let module = match unchanged {
        Some(module) => module,
        None => {
            let module = Module::load(sandbox, grants, name, path, &source, manifest.clone())?;
            runtime
                .block_on(module.try_start(sandbox))
                .map_err(|e| vec![Fault::of(path, format!("cannot be started: {e}"))])?;
            Arc::new(module)
        }
    };
    let tables = tables_read(&module, &source.bytes, grants, context.tables.keys());
    Ok(LoadedModule { module, files: Arc::new(own_files), signed, tables })
}

/// Returns whether the module is only named by its manifest, which has its source.
fn is_manifest(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "toml")
}

/// Returns the manifest of a module, or the changed one that replaces it.
fn manifest_of(
    settings: &Settings,
    name: &str,
    module: &Path,
    trust: Option<&Trust>,
) -> Result<Option<ManifestOf>, Vec<Fault>> {
    let path = module.with_extension("toml");
    if let Some(text) = settings.changes.manifests.get(name) {
        // An unsigned change is not accepted.
        if trust.is_some() {
            let what = "is signed (modules.require-signature); sign the changed file again";
            return Err(vec![Fault::of(&path, what)]);
        }
        return Manifest::parse(&path, text).map(|manifest| Some((manifest, None)));
    }
    load_manifest(folder_of(settings, name), &path, trust)
}

/// Returns the folder that the files of a module must not leave; `None` for a changed module.
fn folder_of<'a>(settings: &'a Settings, name: &str) -> Option<&'a Path> {
    (!settings.changes.modules.contains_key(name)).then_some(&*settings.modules)
}
