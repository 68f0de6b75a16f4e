//! Required signatures of modules: `[modules.require-signature]`.

use std::path::PathBuf;
use std::time::SystemTime;

use saegis_onem2m::timestamp;
use saegis_policy::{Document, Required, TrustedKey};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use saegis_onem2m::serde::all_parsed;

use super::folders::Folders;

/// Keys whose signatures are accepted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Keys {
    /// Public keys in base64: the second line of the file that minisign writes. One good signature
    /// is enough.
    #[serde(default, deserialize_with = "all_parsed")]
    keys: Vec<TrustedKey>,
    /// Files of public keys, as minisign writes them. They are read with each generation.
    #[serde(default)]
    key_files: Vec<PathBuf>,
    /// Earliest accepted time of a signature, in UTC, such as `20261101T000000`.
    #[serde(default, deserialize_with = "time")]
    not_before: Option<SystemTime>,
}

impl Keys {
    /// Resolves paths relative to the folder of the configuration.
    pub fn place(&mut self, folders: &Folders) {
        for file in &mut self.key_files {
            folders.place(file);
        }
    }

    /// Checks what types cannot express.
    pub fn check(&self, document: &mut Document<'_>) {
        if self.keys.is_empty() && self.key_files.is_empty() {
            let what = "has neither keys nor key-files, so every module would be rejected";
            document.add_fault("modules.require-signature", what);
        }
    }

    /// Returns the requirement for the policy runtime.
    pub fn required(&self) -> Required {
        Required {
            keys: self.keys.clone(),
            key_files: self.key_files.clone(),
            not_before: self.not_before,
        }
    }
}

fn time<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SystemTime>, D::Error> {
    let text = String::deserialize(from)?;
    timestamp::parse(&text).map(Some).map_err(|e| D::Error::custom(format!("{text:?}: {e}")))
}
