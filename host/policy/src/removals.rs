//! Policy files that are gone. A file that vanishes is more often a mistake than a decision, and what it
//! allowed would end with it; so it is missed until it is back or the operator accepts that it is gone.

use std::collections::BTreeSet;

use crate::fault::Fault;
use crate::settings::Settings;

/// The files that a generation is made of, as far as it would come into force without them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Present {
    /// The policy files of the folder, by name.
    pub policies: BTreeSet<String>,
    /// The modules that have a manifest, by name.
    pub manifests: BTreeSet<String>,
}

/// The remedy for a file that is gone.
const REMEDY: &str = "put it back, or accept that with `saegis reload --accept-removals`";

/// Adds a fault for each file that the generation in force was made of and that is gone. `elsewhere`
/// tells whether a policy file has come from a registry, and `installed` whether a module is there.
pub(crate) fn check(
    settings: &Settings,
    (before, now): (&Present, &Present),
    elsewhere: impl Fn(&str) -> bool,
    installed: impl Fn(&str) -> bool,
    faults: &mut Vec<Fault>,
) {
    let mut missing = Vec::new();
    for name in before.policies.difference(&now.policies) {
        let path = settings.policies.join(name);
        if !elsewhere(name) {
            let what = format!("is gone, and the generation in force has it; {REMEDY}");
            missing.push(Fault::of(&path, what));
        }
    }
    for name in before.manifests.difference(&now.manifests) {
        if installed(name) {
            let path = settings.modules.join(format!("{name}.toml"));
            let what = format!(
                "is gone, and without it {name}.wasm would be a module of another kind; take both \
                 away, {REMEDY}"
            );
            missing.push(Fault::of(&path, what));
        }
    }
    // A file that is there and wrong, or in a folder that can't be read, has been told.
    let told = |fault: &Fault| {
        faults
            .iter()
            .any(|other| Some(&*other.file) == fault.file.parent() || other.file == fault.file)
    };
    missing.retain(|fault| !told(fault));
    faults.extend(missing);
}
