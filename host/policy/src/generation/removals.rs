//! Policy files that are missing.
//!
//! A file that vanishes is more often a mistake than a decision. So its content is carried over from the
//! generation in force, and the file is reported as missing, until it is back or the operator accepts the
//! removal. Other files take effect meanwhile.

use std::path::Path;
use std::sync::Arc;

use crate::data::disk::under_way;
use crate::data::fault::Fault;
use crate::generation::generation::Generation;
use crate::generation::settings::Settings;
use crate::module::manifest::Manifest;
use crate::sandbox::installed::Installed;

/// The remedy for a file that is gone.
const REMEDY: &str = "put it back, or accept that with `saegis reload --accept-removals`";

/// The files that are gone, and the generation in force, which still has their content.
pub(crate) struct MissingFiles<'a> {
    last: Option<&'a Generation>,
    faults: Vec<Fault>,
}

impl<'a> MissingFiles<'a> {
    /// Carries over from the generation in force; without one, or where the operator accepts that files
    /// are gone, nothing.
    pub fn new(last: Option<&'a Generation>) -> Self {
        Self { last, faults: Vec::new() }
    }

    /// The generation in force, if it was made of this policy file, which is then missed.
    pub fn policy(&mut self, settings: &Settings, name: &str) -> Option<&'a Generation> {
        let last = self.last.filter(|last| last.present.policies.contains(name))?;
        self.add(&settings.policies.join(name), REMEDY);
        Some(last)
    }

    /// The names of the tables of the folder that the generation in force was made of.
    pub fn tables_before(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let files = self.last.into_iter().flat_map(|last| &last.present.policies);
        files.filter_map(|file| file.strip_suffix(".csv"))
    }

    /// The manifest that a module had, which is missed; none, if it had none.
    ///
    /// # Errors
    /// Where it can't be carried over, for the module was a shadow that could not be loaded.
    pub fn manifest(&mut self, name: &str, path: &Path) -> Result<Option<Manifest>, Fault> {
        let Some(last) = self.last.filter(|last| last.present.manifests.contains(name)) else {
            return Ok(None);
        };
        let fault = Fault::of(
            path,
            format!(
                "is gone, and without it {name}.wasm would be a module of another kind; take both \
                 away, {REMEDY}"
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

    /// The content of a file that a module's manifest lists, which is missed.
    pub fn module_file(&mut self, module: &str, name: &str, path: &Path) -> Option<Arc<[u8]>> {
        let last = self.last?;
        let mut all = last.all_installed().filter(|installed| installed.module.name == module);
        let content = all.find_map(|installed: &Installed| installed.files.get(name))?;
        self.add(path, &format!("put it back, or take it out of the manifest of {module}"));
        Some(content.clone())
    }

    /// What `of` takes from the certificates in force, of a file that they name, which is then missed.
    pub fn of_certificates<T>(
        &mut self,
        path: &Path,
        of: impl FnOnce(&'a crate::generation::certificates::Certificates) -> Option<T>,
    ) -> Option<T> {
        let carried = self.last?.certificates.as_deref().and_then(of)?;
        self.add(path, "put it back, or take it out of certificates.toml");
        Some(carried)
    }

    fn add(&mut self, path: &Path, remedy: &str) {
        if !self.faults.iter().any(|fault| fault.file == path) {
            let what = format!("is gone, and the generation in force has it; {remedy}");
            self.faults.push(Fault::of(path, what));
        }
    }

    /// The faults of the files that are missed.
    pub fn into_faults(self) -> Vec<Fault> {
        self.faults
    }

    /// Adds its faults to those for which a generation is refused.
    pub fn add_to(self, faults: &mut Vec<Fault>) {
        // A file in a folder that can't be read has been told.
        let is_reported = |fault: &Fault| {
            faults
                .iter()
                .any(|other| Some(&*other.file) == fault.file.parent() || other.file == fault.file)
        };
        let more: Vec<_> = self.faults.into_iter().filter(|fault| !is_reported(fault)).collect();
        faults.extend(more);
    }
}

/// Whether there is no file of that name; where that can't be told, there is one.
pub(crate) fn is_gone(path: &Path) -> bool {
    under_way(path, || path.try_exists()).is_ok_and(|exists| !exists)
}
