//! Modules that replace others: assigns each module its role.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::data::fault::Fault;
use crate::decision::shadow::{Shadow, UnloadedShadow};
use crate::decision::shadow_queue::ShadowQueue;
use crate::decision::shadows::Shadows;
use crate::generation::generation::Generation;
use crate::module::manifest::Manifest;
use crate::sandbox::installed::InstalledModule;

/// Returns the names of the modules that a module replaces, directly or through others, the nearest
/// first.
///
/// # Errors
/// Fails if the names form a cycle.
pub(crate) fn replaced_names(
    name: &str,
    manifests: &BTreeMap<String, Manifest>,
) -> Result<Vec<String>, String> {
    let mut names: Vec<String> = Vec::new();
    let mut last = name;
    while let Some(next) = manifests.get(last).and_then(|m| m.replaces.as_deref()) {
        if next == name || names.iter().any(|n| n == next) {
            return Err(format!(
                "replaces {}, which leads back to {next}; remove one of these entries",
                names.first().map_or(next, String::as_str)
            ));
        }
        names.push(next.into());
        last = next;
    }
    Ok(names)
}

/// Returns the order of a module in its chain: its own, or else that of the module that it
/// replaces.
pub(crate) fn order(name: &str, of: &[String], manifests: &BTreeMap<String, Manifest>) -> u32 {
    let nowhere = Manifest::default().order;
    let names = std::iter::once(name).chain(of.iter().map(String::as_str));
    let orders = names.filter_map(|n| Some(manifests.get(n)?.order));
    orders.into_iter().find(|order| *order != nowhere).unwrap_or(nowhere)
}

/// Loaded modules by role.
pub(crate) struct Assignment {
    /// Modules in force, in order.
    pub in_force: Vec<InstalledModule>,
    /// Replaced modules.
    pub replaced: Vec<InstalledModule>,
    pub shadows: Shadows,
}

/// Assigns each module its role.
pub(crate) fn assign(
    all: Vec<InstalledModule>,
    mut unloaded: Vec<UnloadedShadow>,
    folder: &Path,
    queue: &ShadowQueue,
    last: Option<&Generation>,
    faults: &mut Vec<Fault>,
) -> Assignment {
    let (shadows, decide): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|i| i.module.manifest.is_shadow());
    let mut taken = BTreeMap::new();
    for installed in &decide {
        let (name, manifest) = (&installed.module.name, &installed.module.manifest);
        let Some(former) = &manifest.replaces else { continue };
        let file = folder.join(format!("{name}.toml"));
        if let Some(other) = taken.insert(former.clone(), name.clone()) {
            faults.push(Fault::of(
                &file,
                format!("replaces {former}, and so does {other}; one of them must be a shadow"),
            ));
        }
        if let Some(former) = decide.iter().find(|i| i.module.name == *former)
            && let Err(what) = check_hooks(installed, former)
        {
            faults.push(Fault::of(&file, what));
        }
    }
    let (replaced, mut in_force): (Vec<_>, Vec<_>) =
        decide.into_iter().partition(|i| taken.contains_key(&i.module.name));
    in_force.sort_by(place);
    let mut loaded = Vec::new();
    for shadow in shadows {
        match check_no_effects(&shadow).and_then(|()| shadow_chain(&shadow, &in_force, &taken)) {
            Ok(chain) => {
                let counts = last.and_then(|last| last.shadows.counts_of(&shadow.module));
                loaded.push(Shadow::new(shadow, chain, counts.unwrap_or_default()));
            }
            Err(what) => {
                let name = shadow.module.name.clone();
                let fault = Fault::of(&folder.join(format!("{name}.toml")), what);
                unloaded.push(UnloadedShadow { name, faults: vec![fault] });
            }
        }
    }
    let shadows = Shadows { loaded: Arc::from(loaded), unloaded, queue: queue.clone() };
    Assignment { in_force, replaced, shadows }
}

fn place(a: &InstalledModule, b: &InstalledModule) -> std::cmp::Ordering {
    (a.order, &a.module.name).cmp(&(b.order, &b.module.name))
}

/// Returns the chain in force with a shadow at its position.
fn shadow_chain(
    shadow: &InstalledModule,
    in_force: &[InstalledModule],
    taken: &BTreeMap<String, String>,
) -> Result<Vec<InstalledModule>, String> {
    let former = shadow.module.manifest.replaces.as_deref();
    if let Some(former) = former {
        match in_force.iter().find(|i| i.module.name == former) {
            Some(former) => check_hooks(shadow, former)?,
            None => {
                return Err(match taken.get(former) {
                    Some(heir) => format!(
                        "replaces {former}, which {heir} already replaces; write replaces = \"{heir}\""
                    ),
                    None => format!("replaces {former}, which is not in force"),
                });
            }
        }
    }
    let others = in_force.iter().filter(|i| Some(i.module.name.as_str()) != former);
    let mut chain: Vec<_> = others.chain([shadow]).cloned().collect();
    chain.sort_by(place);
    Ok(chain)
}

/// Rejects a shadow with I/O, because its I/O would have effects.
fn check_no_effects(shadow: &InstalledModule) -> Result<(), String> {
    match shadow.module.capabilities.iter().find(|capability| capability.waits()) {
        None => Ok(()),
        Some(capability) => Err(format!(
            "is a shadow with the capability {capability}, which has effects outside the sandbox; \
             a module with that capability cannot be a shadow"
        )),
    }
}

/// Rejects a replacement that drops a hook: the check would be removed unnoticed.
fn check_hooks(heir: &InstalledModule, former: &InstalledModule) -> Result<(), String> {
    let missing = former.module.hooks().into_iter().find(|hook| !heir.module.has(*hook));
    match missing {
        None => Ok(()),
        Some(hook) => Err(format!(
            "replaces {0}, but does not export {hook}, as {0} does",
            former.module.name
        )),
    }
}

/// Returns whether a module is in force under a name: as itself, or as a replacement.
pub(crate) fn is_in_force_as(installed: &InstalledModule, name: &str) -> bool {
    installed.module.name == name || installed.lineage.iter().any(|n| n == name)
}
