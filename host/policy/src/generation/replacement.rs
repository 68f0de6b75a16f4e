//! Modules that replace others: which are in force, which are replaced, which are shadows.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::data::fault::Fault;
use crate::decision::shadow::{Shadow, UnloadedShadow};
use crate::decision::shadow_queue::ShadowQueue;
use crate::decision::shadows::Shadows;
use crate::generation::generation::Generation;
use crate::module::manifest::Manifest;
use crate::sandbox::installed::Installed;

/// The names of the modules whose place a module has taken, the nearest first.
///
/// # Errors
/// That the names lead back to where they came from.
pub(crate) fn replaced_names(
    name: &str,
    manifests: &BTreeMap<String, Manifest>,
) -> Result<Vec<String>, String> {
    let mut names: Vec<String> = Vec::new();
    let mut last = name;
    while let Some(next) = manifests.get(last).and_then(|m| m.replaces.as_deref()) {
        if next == name || names.iter().any(|n| n == next) {
            return Err(format!(
                "replaces {}, whose replaces leads back to {next}; take one of them out",
                names.first().map_or(next, String::as_str)
            ));
        }
        names.push(next.into());
        last = next;
    }
    Ok(names)
}

/// Where a module stands in its chain: where it says, or else where those stand whose place it takes.
pub(crate) fn order(name: &str, of: &[String], manifests: &BTreeMap<String, Manifest>) -> u32 {
    let nowhere = Manifest::default().order;
    let names = std::iter::once(name).chain(of.iter().map(String::as_str));
    let orders = names.filter_map(|n| Some(manifests.get(n)?.order));
    orders.into_iter().find(|order| *order != nowhere).unwrap_or(nowhere)
}

/// The modules that were loaded, each in its part.
pub(crate) struct Assignment {
    /// Those in force, in their order.
    pub in_force: Vec<Installed>,
    /// Those whose place others have taken.
    pub replaced: Vec<Installed>,
    pub shadows: Shadows,
}

/// Gives each module its part.
pub(crate) fn assign(
    all: Vec<Installed>,
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

fn place(a: &Installed, b: &Installed) -> std::cmp::Ordering {
    (a.order, &a.module.name).cmp(&(b.order, &b.module.name))
}

/// The chain in force with a shadow in its place.
fn shadow_chain(
    shadow: &Installed,
    in_force: &[Installed],
    taken: &BTreeMap<String, String>,
) -> Result<Vec<Installed>, String> {
    let former = shadow.module.manifest.replaces.as_deref();
    if let Some(former) = former {
        match in_force.iter().find(|i| i.module.name == former) {
            Some(former) => check_hooks(shadow, former)?,
            None => {
                return Err(match taken.get(former) {
                    Some(heir) => format!(
                        "replaces {former}, whose place {heir} has taken; write replaces = \"{heir}\""
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

/// A shadow changes nothing, and what a module with I/O does outside is a change.
fn check_no_effects(shadow: &Installed) -> Result<(), String> {
    match shadow.module.capabilities.iter().find(|capability| capability.waits()) {
        None => Ok(()),
        Some(capability) => Err(format!(
            "is a shadow's, and has the capability {capability}: what it did there would be no less \
             real; a module with it can't be a shadow"
        )),
    }
}

/// A check that went away with the module that made it would be missed by nobody.
fn check_hooks(heir: &Installed, former: &Installed) -> Result<(), String> {
    let missing = former.module.hooks().into_iter().find(|hook| !heir.module.has(*hook));
    match missing {
        None => Ok(()),
        Some(hook) => Err(format!(
            "replaces {0}, but does not export {hook}, as {0} does",
            former.module.name
        )),
    }
}

/// The modules that are in force under a name: itself, or the one that has taken its place.
pub(crate) fn is_in_force_as(installed: &Installed, name: &str) -> bool {
    installed.module.name == name || installed.lineage.iter().any(|n| n == name)
}
