//! Manifest of a module, `NAME.toml` beside `NAME.wasm`: its order in the chain and its
//! capabilities.

use std::num::NonZeroU32;
use std::path::Path;

use serde::{Deserialize, Deserializer, de::Error as _};

use crate::data::document::Document;
use crate::data::fault::Fault;
use crate::data::files::{self, Digest};
use crate::data::text;
use crate::module::capability::Capability;
use crate::module::signature::{self, Signed, Trust};

/// Manifest of a module. Without one, a module is called last and has no capabilities.
#[derive(Debug, Clone, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Manifest {
    /// Position in the chain: modules of a hook are called in ascending order, those of one order
    /// by name.
    #[serde(default = "last")]
    pub order: u32,
    /// Whether the module decides. A shadow is evaluated beside the modules in force and changes no
    /// response. `saegis module promote` writes `in-force`.
    #[serde(default)]
    pub mode: Option<Mode>,
    /// Name of the module that this one replaces.
    #[serde(default)]
    pub replaces: Option<String>,
    /// Capabilities that the module requests.
    #[serde(default)]
    pub capabilities: Vec<Capability>,
    /// Names of policy files that the module may read with `policy-files`. Policy tables are not
    /// allowed here.
    #[serde(default)]
    pub files: Vec<String>,
    /// SHA-256 digest of the module: `sha256:` and 64 hexadecimal digits, as `sha256sum` prints
    /// them. Any other file is rejected.
    #[serde(default, deserialize_with = "digest")]
    pub digest: Option<Digest>,
    /// Number of calls that one instance may serve, if `modules.reuse` allows it. Without it, each
    /// call has a fresh instance.
    #[serde(default)]
    pub reuse: Option<NonZeroU32>,
    /// OCI artifact of the module, if there is no file beside the manifest: `oci://…@sha256:…`.
    #[serde(default)]
    pub source: Option<String>,
}

/// Deserializes a digest in the common form: `sha256:` and 64 hexadecimal digits.
fn digest<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Digest>, D::Error> {
    let text = String::deserialize(from)?;
    let mut bytes = Digest::default();
    let digits =
        text.strip_prefix("sha256:").map(|digits| hex::decode_to_slice(digits, &mut bytes));
    match digits {
        Some(Ok(())) => Ok(Some(bytes)),
        _ => Err(D::Error::custom(format!(
            "{text:?} is not a digest; a digest is \"sha256:\" and the 64 digits that `sha256sum` prints"
        ))),
    }
}

/// Mode of a module.
#[derive(Debug, Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Mode {
    /// It decides. A promoted module has this entry.
    InForce,
    /// It is evaluated beside the modules in force, without an effect.
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
            digest: None,
            reuse: None,
            source: None,
        }
    }
}

impl Manifest {
    /// Returns whether the module is a shadow.
    pub fn is_shadow(&self) -> bool {
        self.mode == Some(Mode::Shadow)
    }

    /// Parses a manifest, and returns all its faults.
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
                    let what = format!("{name:?} is not the name of a file in the policies folder");
                    document.add_fault("files", &what);
                } else if is_table {
                    let what = format!("{name:?} is a policy table; request policy-tables");
                    document.add_fault("files", &what);
                }
            }
            let may_read = manifest.capabilities.contains(&Capability::PolicyFiles);
            if !manifest.files.is_empty() && !may_read {
                document.add_fault("files", "requires the capability \"policy-files\"");
            }
        }
        let faults = document.into_faults();
        manifest.filter(|_| faults.is_empty()).ok_or(faults)
    }

    /// Checks that this is the manifest of the module with that digest.
    pub fn check_digest(&self, module: &Path, digest: &Digest) -> Result<(), Fault> {
        match self.digest {
            Some(pinned) if pinned != *digest => {
                let what = format!(
                    "has the digest sha256:{}, but its manifest pins sha256:{}; it is not the file \
                     that the manifest is for",
                    hex::encode(digest),
                    hex::encode(pinned)
                );
                Err(Fault::of(module, what))
            }
            _ => Ok(()),
        }
    }
}

/// Maximum size of a manifest, in bytes.
const MAX_MANIFEST: u64 = 64 << 10;

/// A manifest, and its signature if one is required.
pub(crate) type ManifestOf = (Manifest, Option<Signed>);

/// Loads a manifest, if it exists. If there is a folder, no link may lead out of it.
pub(crate) fn load_manifest(
    folder: Option<&Path>,
    path: &Path,
    trust: Option<&Trust>,
) -> Result<Option<ManifestOf>, Vec<Fault>> {
    let Some(source) = files::read_if_there_within(folder, path, MAX_MANIFEST)? else {
        return Ok(None);
    };
    let text = text::decode(path, &source.bytes)?;
    let manifest = Manifest::parse(path, text)?;
    let Some(trust) = trust else { return Ok(Some((manifest, None))) };
    let signed = signature::demand(path, &source.bytes, trust)?;
    if manifest.digest.is_none() && manifest.source.is_none() {
        // Otherwise it could be copied beside another signed module.
        let what = "has no digest, which a signed manifest requires; add digest = \"sha256:…\" of the \
                    module, and sign it again";
        return Err(vec![Fault::of(path, what)]);
    }
    Ok(Some((manifest, Some(signed))))
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
