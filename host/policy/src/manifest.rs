//! A module's manifest, `NAME.toml` beside `NAME.wasm`: its place in the chain, what it asks for.

use std::path::Path;

use serde::Deserialize;

use crate::capability::Capability;
use crate::document::Document;
use crate::fault::Fault;

/// A manifest. A module without one has no capabilities and comes last.
#[derive(Debug, Clone, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Manifest {
    /// Modules of a hook are asked in ascending order; those of one order, by name.
    #[serde(default = "last")]
    pub order: u32,
    /// Whether it decides, or is asked beside those that do.
    #[serde(default)]
    pub mode: Option<Mode>,
    /// The module whose place it takes.
    #[serde(default)]
    pub replaces: Option<String>,
    /// What it asks for.
    #[serde(default)]
    pub capabilities: Vec<Capability>,
    /// The policy files that it may read, by name; of use with `policy-files`.
    #[serde(default)]
    pub files: Vec<String>,
}

/// Whether a module decides.
#[derive(Debug, Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Mode {
    /// It does. One that was promoted says so.
    InForce,
    /// It is asked beside those that do, and changes nothing.
    Shadow,
}

fn last() -> u32 {
    u32::MAX
}

impl Default for Manifest {
    fn default() -> Self {
        Self {
            order: last(),
            mode: None,
            replaces: None,
            capabilities: Vec::new(),
            files: Vec::new(),
        }
    }
}

impl Manifest {
    /// Whether it is a shadow's.
    pub fn is_shadow(&self) -> bool {
        self.mode == Some(Mode::Shadow)
    }

    /// Reads a manifest, or says all that is wrong with it.
    pub fn parse(file: &Path, text: &str) -> Result<Self, Vec<Fault>> {
        let mut document = Document::parse(file, text);
        let manifest: Option<Self> = document.read();
        if let Some(manifest) = &manifest {
            for name in &manifest.files {
                let plain =
                    !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\']);
                let is_table =
                    Path::new(name).extension().is_some_and(|e| e.eq_ignore_ascii_case("csv"));
                if !plain {
                    let what = format!("{name:?} is no name of a file in the policies folder");
                    document.add_fault("files", &what);
                } else if is_table {
                    let what = format!("{name:?} is a policy table; ask for policy-tables");
                    document.add_fault("files", &what);
                }
            }
            let may_read = manifest.capabilities.contains(&Capability::PolicyFiles);
            if !manifest.files.is_empty() && !may_read {
                document.add_fault("files", "of use only with the capability \"policy-files\"");
            }
        }
        let faults = document.into_faults();
        manifest.filter(|_| faults.is_empty()).ok_or(faults)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Manifest, String> {
        Manifest::parse(Path::new("m.toml"), text).map_err(|f| f[0].to_string())
    }

    #[test]
    fn defaults_are_no_authority_and_the_last_place() {
        let m = parse("").unwrap();
        assert_eq!(m, Manifest::default());
        assert!(m.capabilities.is_empty());
        assert_eq!(m.order, u32::MAX);
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        let e = parse("order = 1\ncapabilites = []\n").unwrap_err();
        assert!(e.starts_with("m.toml:2:1: unknown field `capabilites`"), "{e}");
        let e = parse("capabilities = [\"policy-tables\", \"all\"]").unwrap_err();
        assert!(e.starts_with("m.toml:1:34: unknown variant `all`"), "{e}");
        for name in ["../x", "", ".x", "a/b", "t.csv", "t.CSV"] {
            let text = format!("capabilities=[\"policy-files\"]\nfiles=[{name:?}]");
            assert!(parse(&text).is_err(), "{name}");
        }
        assert!(parse("files = [\"x.toml\"]").is_err());
    }
}
