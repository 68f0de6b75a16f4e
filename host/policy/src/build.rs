//! Building a generation from what is on disk, off the hot path.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::runtime::Handle;

use crate::artefact::{self, PolicyFiles};
use crate::aside;
use crate::certificates;
use crate::fault::{Fault, Faults};
use crate::files::{self, Digest};
use crate::generation::Generation;
use crate::host::{Files, Tables};
use crate::installed::{Installed, reuse};
use crate::io::Io;
use crate::lineage::{self, Parts};
use crate::manifest::Manifest;
use crate::module::{Hook, Module};
use crate::queue::Queue;
use crate::sandbox::Sandbox;
use crate::settings::{Grants, Settings};
use crate::shadow::Unloaded;
use crate::shown::steers;
use crate::signature::{self, Required, Signed, Trust};
use crate::subscription::{self, Subscription};
use crate::table::Table;

/// Builds the generation that follows `last`. What has not changed since is taken over.
pub(crate) async fn build(
    settings: &Settings,
    sandbox: &Arc<Sandbox>,
    queue: &Queue,
    last: Option<&Arc<Generation>>,
) -> Result<Generation, Faults> {
    let (settings, sandbox, last) = (settings.clone(), sandbox.clone(), last.cloned());
    let queue = queue.clone();
    let folder = settings.modules.clone();
    let failed = |why: String| Faults(vec![Fault::of(&folder, format!("loading failed: {why}"))]);
    let (answer, built) = tokio::sync::oneshot::channel();
    let runtime = Handle::current();
    // A thread of its own: whoever keeps the runtime's blocking threads busy must not be able to
    // put off the reload that would end that.
    let work = move || {
        let built = build_now(&settings, &sandbox, &queue, last.as_deref(), &runtime);
        // Nobody waits any more when the gateway stops.
        let _ = answer.send(built);
    };
    let thread = std::thread::Builder::new().name("policy-build".into()).spawn(work);
    thread.map_err(|e| failed(e.to_string()))?;
    built.await.unwrap_or_else(|_| Err(failed("it ended without a result".into())))
}

fn build_now(
    settings: &Settings,
    sandbox: &Arc<Sandbox>,
    queue: &Queue,
    last: Option<&Generation>,
    runtime: &Handle,
) -> Result<Generation, Faults> {
    let mut faults = Vec::new();
    let policies = PolicyFiles::find(settings, &mut faults);
    let tables = aside::give_way(|| load_tables(settings, &policies, last, &mut faults));
    let LoadedTables { tables, digests: table_digests, exposed } = tables.map_err(|e| {
        Faults(vec![Fault::of(&settings.policies, format!("there is no thread to load it: {e}"))])
    })?;
    let (subscription, subscription_digest) =
        load_subscription(settings, &policies, last, &mut faults);
    let last_certificates = last.and_then(|last| last.certificates.as_ref());
    let certificates = certificates::load(settings, last_certificates, &mut faults);
    let Loaded { all, unloaded } =
        load_modules(settings, &policies, sandbox, last, runtime, &mut faults);
    let Parts { in_force: modules, kept, shadows } =
        lineage::assign(all, unloaded, &settings.modules, queue, last, &mut faults);
    if faults.is_empty() {
        for name in &settings.required {
            if !modules.iter().any(|i| lineage::stands_for(i, name)) {
                let file = settings.modules.join(format!("{name}.wasm"));
                faults.push(Fault::of(&file, "is required (modules.required), and is not there"));
            }
        }
        let checks = |i: &Installed| i.module.has(Hook::RegistrationCheck);
        if subscription.is_some() && !modules.iter().any(checks) {
            let what = "says who may register, but no module exports registration-check, as \
                        app-rules does; install it, or take the file away";
            faults.push(Fault::of(&settings.policies.join(subscription::FILE), what));
        }
        let of_maf = settings.is_maf.then_some(Hook::KeyRegistrationCheck);
        for hook in [Hook::CredentialLookup, Hook::ImpersonationCheck].into_iter().chain(of_maf) {
            if !modules.iter().any(|i| i.module.has(hook)) {
                let whose = if settings.is_maf { "MAF" } else { "gateway" };
                let what = format!("no module exports {hook}; a {whose} needs at least one");
                faults.push(Fault::of(&settings.modules, what));
            }
        }
    }
    if !faults.is_empty() {
        return Err(Faults(faults));
    }
    Ok(Generation {
        number: last.map_or(1, |last| last.number + 1),
        modules,
        kept,
        shadows,
        artefacts: policies.sources,
        recorder: settings.recorder.clone(),
        tables: Arc::new(tables),
        table_digests,
        exposed,
        subscription,
        subscription_digest,
        certificates,
        sandbox: sandbox.clone(),
        service_provider: settings.service_provider.clone(),
        cse: settings.cse.clone(),
        registrars: settings.registrars.clone(),
        maf_keys: settings.maf_keys.clone(),
        is_maf: settings.is_maf,
    })
}

/// Whether two generations were made from the same files.
pub(crate) fn same(a: &Generation, b: &Generation) -> bool {
    a.table_digests == b.table_digests
        && a.subscription_digest == b.subscription_digest
        && a.certificates.as_ref().map(Arc::as_ptr) == b.certificates.as_ref().map(Arc::as_ptr)
        && same_modules(&a.modules, &b.modules)
        && same_modules(&a.kept, &b.kept)
        && a.shadows.are_same(&b.shadows)
}

fn same_modules(a: &[Installed], b: &[Installed]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.is_same(b))
}

/// The policy tables of a generation.
#[derive(Default)]
struct LoadedTables {
    tables: Tables,
    digests: BTreeMap<String, Digest>,
    /// Those whose files every user of the machine may read.
    exposed: Vec<String>,
}

fn load_tables(
    settings: &Settings,
    policies: &PolicyFiles<'_>,
    last: Option<&Generation>,
    faults: &mut Vec<Fault>,
) -> LoadedTables {
    let mut loaded = LoadedTables::default();
    let mut all = list(&settings.policies, "csv", faults);
    all.extend(policies.fetched("csv"));
    for (name, path) in all {
        let source = match policies.read(&format!("{name}.csv"), settings.limits.file_size) {
            Ok(source) => source,
            Err(fault) => {
                faults.push(fault);
                continue;
            }
        };
        let unchanged = last
            .filter(|last| last.table_digests.get(&name) == Some(&source.digest))
            .and_then(|last| last.tables.get(&name));
        let table = match unchanged {
            Some(table) => Ok(table.clone()),
            None => Table::parse(&path, &source.bytes).map(Arc::new),
        };
        match table {
            Ok(table) => {
                loaded.digests.insert(name.clone(), source.digest);
                if source.exposed && table.has_keys() {
                    loaded.exposed.push(name.clone());
                }
                loaded.tables.insert(name, table);
            }
            Err(found) => faults.extend(found),
        }
    }
    loaded
}

fn load_subscription(
    settings: &Settings,
    policies: &PolicyFiles<'_>,
    last: Option<&Generation>,
    faults: &mut Vec<Fault>,
) -> (Option<Arc<Subscription>>, Option<Digest>) {
    let file = policies.called(subscription::FILE);
    if !settings.subscription_file || policies.lacks(subscription::FILE) {
        return (None, None);
    }
    let source = match policies.read(subscription::FILE, settings.limits.file_size) {
        Ok(source) => source,
        Err(fault) => {
            faults.push(fault);
            return (None, None);
        }
    };
    let digest = Some(source.digest);
    if let Some(last) = last.filter(|last| last.subscription_digest == digest) {
        return (last.subscription.clone(), digest);
    }
    let parsed = match std::str::from_utf8(&source.bytes) {
        Ok(text) => Subscription::parse(&file, text, &settings.cse),
        Err(_) => Err(vec![Fault::of(&file, "is not UTF-8")]),
    };
    match parsed {
        Ok(subscription) => (Some(Arc::new(subscription)), digest),
        Err(found) => {
            faults.extend(found);
            (None, None)
        }
    }
}

/// The modules that are on disk, and the shadows that could not be loaded.
struct Loaded {
    all: Vec<Installed>,
    unloaded: Vec<Unloaded>,
}

fn load_modules(
    settings: &Settings,
    policies: &PolicyFiles<'_>,
    sandbox: &Arc<Sandbox>,
    last: Option<&Generation>,
    runtime: &Handle,
    faults: &mut Vec<Fault>,
) -> Loaded {
    let mut loaded = Loaded { all: Vec::new(), unloaded: Vec::new() };
    let trust = match settings.signatures.as_ref().map(Required::trust).transpose() {
        Ok(trust) => trust,
        Err(found) => {
            faults.extend(found);
            return loaded;
        }
    };
    let trust = trust.as_ref();
    let mut files = list(&settings.modules, "wasm", faults);
    // A manifest may name a module of a registry.
    for (name, manifest) in list(&settings.modules, "toml", &mut Vec::new()) {
        files.entry(name).or_insert(manifest);
    }
    files.extend(settings.changes.modules.clone());
    let mut manifests = BTreeMap::new();
    let mut signatures = BTreeMap::new();
    // What is wrong is told in the order of the modules' names.
    let mut wrong = BTreeMap::new();
    for (name, path) in &files {
        match manifest_of(settings, name, path, trust) {
            // A manifest of which there is no module, here or elsewhere, is nobody's.
            Ok((manifest, _)) if is_manifest(path) && manifest.source.is_none() => {}
            Ok((manifest, signed)) => {
                manifests.insert(name.clone(), manifest);
                signatures.insert(name, signed);
            }
            Err(found) => {
                wrong.insert(name, found);
            }
        }
    }
    let context = Context { settings, policies, trust, sandbox, last, runtime };
    for (name, manifest) in &manifests {
        let Some(path) = files.get(name) else { continue };
        let lineage = lineage::lineage(name, &manifests)
            .map_err(|what| one(Fault::of(&path.with_extension("toml"), what)));
        let installed = lineage.and_then(|lineage| {
            // What is not there leaves nobody anything.
            let there = lineage.iter().filter(|name| manifests.contains_key(*name));
            let of: Vec<_> = there.map(String::as_str).collect();
            let grants = settings.grants.with_heir(name, &of);
            let order = lineage::order(name, &lineage, &manifests);
            let signed = signatures.get(name).copied().flatten();
            let LoadedModule { module, files, signed } =
                load_module(&context, (name, path, manifest), signed, &grants)?;
            let kept = reuse(&module, path, &grants).map_err(one)?;
            let last = last.and_then(|last| last.modules.iter().find(|i| i.module.name == *name));
            let last = last.map(|last| &*last.io);
            let io = Io::of((&module, path), &lineage, &grants, &settings.stores, last)?;
            let (io, kept) = (Arc::new(io), kept.map(Arc::new));
            Ok(Installed { module, files, order, lineage, signed, io, kept })
        });
        match installed {
            Ok(one) => loaded.all.push(one),
            // A shadow changes nothing, and so it keeps nothing from coming into force.
            Err(faults) if manifest.is_shadow() => {
                loaded.unloaded.push(Unloaded { name: name.clone(), faults });
            }
            Err(found) => {
                wrong.insert(name, found);
            }
        }
    }
    faults.extend(wrong.into_values().flatten());
    loaded
}

/// What a module is loaded with.
struct Context<'a> {
    settings: &'a Settings,
    policies: &'a PolicyFiles<'a>,
    trust: Option<&'a Trust>,
    sandbox: &'a Arc<Sandbox>,
    last: Option<&'a Generation>,
    runtime: &'a Handle,
}

/// A module that was loaded, and what it was loaded with.
struct LoadedModule {
    module: Arc<Module>,
    files: Arc<Files>,
    signed: Option<Signed>,
}

/// Loads a module by its file, or from where its manifest says that it comes.
fn load_module(
    context: &Context<'_>,
    (name, path, manifest): (&str, &Path, &Manifest),
    manifest_signed: Option<Signed>,
    grants: &Grants,
) -> Result<LoadedModule, Vec<Fault>> {
    let &Context { settings, policies, trust, sandbox, last, runtime } = context;
    if !settings.changes.modules.contains_key(name) {
        files::stays_in(&settings.modules, path).map_err(one)?;
    }
    let (source, signed) = match &manifest.source {
        Some(_) if !is_manifest(path) => {
            let what = format!("says where the module comes from, and {name}.wasm is here too");
            return Err(one(Fault::of(&path.with_extension("toml"), what)));
        }
        // The reference pins it, and is signed with the manifest.
        Some(from) => {
            let source = artefact::read_module(settings, path, from).map_err(one)?;
            (source, manifest_signed)
        }
        None => {
            let source = files::read(path, settings.limits.module_size).map_err(one)?;
            let signed = trust.map(|trust| signature::demand(path, &source.bytes, trust));
            let signed = signed.transpose().map_err(one)?;
            if signed.is_some() && manifest_signed.is_none() {
                // Else whoever takes a manifest away makes a shadow decide.
                let what = "has no manifest, and a signed module must have one that is signed too";
                return Err(one(Fault::of(path, what)));
            }
            (source, signed)
        }
    };
    manifest.check_digest(path, &source.digest).map_err(one)?;
    let unchanged = last.and_then(|last| {
        let same = |m: &Arc<Module>| {
            // What was granted may be no more: `replaces` of others has changed.
            let granted = manifest.capabilities.iter().all(|c| grants.allow(name, *c));
            m.name == name && m.digest == source.digest && m.manifest == *manifest && granted
        };
        last.all_modules().find(|m| same(m)).cloned()
    });
    let mut own_files = Files::new();
    for file in &manifest.files {
        // What a module can't hold it can't read.
        let limit = settings.limits.memory as u64;
        let source = policies.read(file, limit).map_err(one)?;
        own_files.insert(file.clone(), Arc::from(source.bytes.as_slice()));
    }
    let module = match unchanged {
        Some(module) => module,
        None => {
            let module = Module::load(sandbox, grants, name, path, &source, manifest.clone())
                .map_err(one)?;
            runtime
                .block_on(module.try_start(sandbox))
                .map_err(|e| one(Fault::of(path, format!("can't be started: {e}"))))?;
            Arc::new(module)
        }
    };
    Ok(LoadedModule { module, files: Arc::new(own_files), signed })
}

fn one(fault: Fault) -> Vec<Fault> {
    vec![fault]
}

/// Largest manifest, in bytes.
const MAX_MANIFEST: u64 = 64 << 10;

/// Whether a module is named by its manifest alone, which says where it comes from.
fn is_manifest(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "toml")
}

/// The manifest of a module that is there, or that is to be taken for its, and whose it is, if it must be
/// somebody's.
fn manifest_of(
    settings: &Settings,
    name: &str,
    module: &Path,
    trust: Option<&Trust>,
) -> Result<(Manifest, Option<Signed>), Vec<Fault>> {
    let path = module.with_extension("toml");
    if let Some(text) = settings.changes.manifests.get(name) {
        // A change that nobody has signed is none.
        if trust.is_some() {
            let what = "is signed: who changes it signs it anew (modules.require-signature)";
            return Err(one(Fault::of(&path, what)));
        }
        return Manifest::parse(&path, text).map(|manifest| (manifest, None));
    }
    if !settings.changes.modules.contains_key(name) {
        files::stays_in(&settings.modules, &path).map_err(one)?;
    }
    load_manifest(&path, trust)
}

/// Reads a manifest, with whose it is, if it must be somebody's.
pub(crate) fn load_manifest(
    path: &Path,
    trust: Option<&Trust>,
) -> Result<(Manifest, Option<Signed>), Vec<Fault>> {
    if matches!(path.try_exists(), Ok(false)) {
        return Ok((Manifest::default(), None));
    }
    let source = files::read(path, MAX_MANIFEST).map_err(one)?;
    let text = std::str::from_utf8(&source.bytes);
    let text = text.map_err(|_| one(Fault::of(path, "is not UTF-8")))?;
    let manifest = Manifest::parse(path, text)?;
    let Some(trust) = trust else { return Ok((manifest, None)) };
    let signed = signature::demand(path, &source.bytes, trust).map_err(one)?;
    if manifest.digest.is_none() && manifest.source.is_none() {
        // Else it could be put beside another module that is signed.
        let what = "pins no digest, as each signed manifest must; add digest = \"sha256:…\" of the \
                    module, and sign it anew";
        return Err(one(Fault::of(path, what)));
    }
    Ok((manifest, Some(signed)))
}

/// The files of a folder with that extension, by name without it. Hidden files are nobody's: they
/// are what editors and file copies leave while they write.
pub(crate) fn list(
    folder: &Path,
    extension: &str,
    faults: &mut Vec<Fault>,
) -> BTreeMap<String, PathBuf> {
    let mut found = BTreeMap::new();
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) => {
            faults.push(Fault::of(folder, format!("the folder can't be read: {e}")));
            return found;
        }
    };
    for entry in entries {
        let path = match entry {
            Ok(entry) => entry.path(),
            Err(e) => {
                faults.push(Fault::of(folder, format!("the folder can't be read: {e}")));
                continue;
            }
        };
        let stem = path.file_stem().and_then(|s| s.to_str()).unwrap_or_default();
        if path.extension().is_some_and(|e| e == extension) && !stem.starts_with('.') {
            if stem.is_empty() {
                faults.push(Fault::of(&path, "the file's name is not UTF-8"));
            } else if stem.contains(steers) {
                // It is a name in logs, metrics and answers.
                let what = "the file's name has a character that begins a line or steers a terminal; \
                            rename it";
                faults.push(Fault::of(&path, what));
            } else {
                found.insert(stem.to_string(), path);
            }
        }
    }
    found
}
