//! Policy files that are missing.
//!
//! A missing file is more often a mistake than a decision. So its content is taken over from the
//! generation in force, and the file is reported as missing, until it is back or the operator
//! accepts the removal. Changes of other files take effect.

use std::path::Path;
use std::sync::Arc;

use crate::data::disk::under_way;
use crate::data::fault::Fault;
use crate::generation::generation::Generation;
use crate::generation::settings::Settings;
use crate::module::manifest::Manifest;
use crate::sandbox::installed::InstalledModule;

/// Remedy for a missing file.
const REMEDY: &str = "restore it, or accept the removal with `saegis reload --accept-removals`";

/// Missing files, and the generation in force, which still has their content.
pub(crate) struct MissingFiles<'a> {
    last: Option<&'a Generation>,
    faults: Vec<Fault>,
}

impl<'a> MissingFiles<'a> {
    /// Takes over content from the generation in force. Without one, or if the operator accepts
    /// removals, there is nothing to take over.
    pub fn new(last: Option<&'a Generation>) -> Self {
        Self { last, faults: Vec::new() }
    }

    /// Returns the generation in force if it contains this policy file, which is then reported as
    /// missing.
    pub fn policy(&mut self, settings: &Settings, name: &str) -> Option<&'a Generation> {
        let last = self.last.filter(|last| last.present.policies.contains(name))?;
        self.add(&settings.policies.join(name), REMEDY);
        Some(last)
    }

    /// Returns the names of the tables of the folder in the generation in force.
    pub fn tables_before(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let files = self.last.into_iter().flat_map(|last| &last.present.policies);
        files.filter_map(|file| file.strip_suffix(".csv"))
    }

    /// Returns the former manifest of a module, which is reported as missing. Returns `None` if it
    /// had none.
    ///
    /// # Errors
    /// Fails if it cannot be taken over because the module was a shadow that could not be loaded.
    pub fn manifest(&mut self, name: &str, path: &Path) -> Result<Option<Manifest>, Fault> {
        let Some(last) = self.last.filter(|last| last.present.manifests.contains(name)) else {
            return Ok(None);
        };
        let fault = Fault::of(
            path,
            format!(
                "is missing, and without it {name}.wasm would have another role; remove both \
                 files; {REMEDY}"
            ),
        );
        match last.all_modules().find(|module| module.name == name) {
            Some(module) => {
                self.faults.push(fault);
                Ok(Some(module.manifest.clone()))
            }
            None => Err(fault),
        }
    }

    /// Returns the former content of a file in the list of a manifest, which is reported as
    /// missing.
    pub fn module_file(&mut self, module: &str, name: &str, path: &Path) -> Option<Arc<[u8]>> {
        let last = self.last?;
        let mut all = last.all_installed().filter(|installed| installed.module.name == module);
        let content = all.find_map(|installed: &InstalledModule| installed.files.get(name))?;
        self.add(path, &format!("restore it, or remove it from the manifest of {module}"));
        Some(content.clone())
    }

    /// Returns the result of `of` for the certificates in force, for a file that they name, which
    /// is reported as missing.
    pub fn of_certificates<T>(
        &mut self,
        path: &Path,
        of: impl FnOnce(&'a crate::generation::certificates::Certificates) -> Option<T>,
    ) -> Option<T> {
        let carried = self.last?.certificates.as_deref().and_then(of)?;
        self.add(path, "restore it, or remove it from certificates.toml");
        Some(carried)
    }

    fn add(&mut self, path: &Path, remedy: &str) {
        if !self.faults.iter().any(|fault| fault.file == path) {
            let what = format!("is missing, and the generation in force needs it; {remedy}");
            self.faults.push(Fault::of(path, what));
        }
    }

    /// Returns the faults of the missing files.
    pub fn into_faults(self) -> Vec<Fault> {
        self.faults
    }

    /// Adds its faults to those of a rejected generation.
    pub fn add_to(self, faults: &mut Vec<Fault>) {
        // If the folder cannot be read, the missing file is already reported.
        let is_reported = |fault: &Fault| {
            faults
                .iter()
                .any(|other| Some(&*other.file) == fault.file.parent() || other.file == fault.file)
        };
        let more: Vec<_> = self.faults.into_iter().filter(|fault| !is_reported(fault)).collect();
        faults.extend(more);
    }
}

/// Returns whether a file does not exist. If this cannot be determined, returns `false`.
pub(crate) fn is_gone(path: &Path) -> bool {
    under_way(path, || path.try_exists()).is_ok_and(|exists| !exists)
}
