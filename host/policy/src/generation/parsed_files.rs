//! Loads the policy files that are parsed as a whole.

use std::path::Path;
use std::sync::Arc;

use crate::data::fault::Fault;
use crate::data::parsed_file::ParsedFile;
use crate::data::text;
use crate::generation::generation::Generation;
use crate::generation::oci_artifacts::PolicyFiles;
use crate::generation::removals::MissingFiles;
use crate::generation::settings::Settings;

/// The inputs for all such files.
pub(crate) struct Inputs<'a, 'm, 'g> {
    pub settings: &'a Settings,
    pub policies: &'a PolicyFiles<'a>,
    pub last: Option<&'g Generation>,
    pub missing: &'m mut MissingFiles<'g>,
}

impl<'g> Inputs<'_, '_, 'g> {
    /// Loads the file `name`. `of` returns the content in a former generation, which is reused if the
    /// file has not changed, and taken over if the file is missing.
    pub fn load<T: 'g>(
        &mut self,
        name: &str,
        of: impl Fn(&'g Generation) -> &'g ParsedFile<T>,
        parse: impl FnOnce(&Path, &str) -> Result<T, Vec<Fault>>,
        faults: &mut Vec<Fault>,
    ) -> ParsedFile<T> {
        let source = match self.policies.read_if_there(name, self.settings.limits.file_size) {
            Ok(Some(source)) => source,
            Ok(None) => {
                let carried = self.missing.policy(self.settings, name);
                return carried.map(|last| of(last).clone()).unwrap_or_default();
            }
            Err(fault) => {
                faults.push(fault);
                return ParsedFile::default();
            }
        };
        let digest = Some(source.digest);
        if let Some(last) = self.last.map(of).filter(|last| last.digest == digest) {
            return last.clone();
        }
        let file = self.policies.called(name);
        let text = text::decode(&file, &source.bytes).map_err(Vec::from);
        match text.and_then(|text| parse(&file, text)) {
            Ok(content) => ParsedFile { content: Some(Arc::new(content)), digest },
            Err(found) => {
                faults.extend(found);
                ParsedFile::default()
            }
        }
    }
}
