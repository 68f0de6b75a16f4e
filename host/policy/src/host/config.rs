//! `wasi:config`: values and secrets from the settings for one module.
//!
//! The implementation of the runtime crate stores values in memory that is not wiped, so only its
//! interface is used.

use std::collections::BTreeMap;
use std::path::Path;

use zeroize::Zeroizing;

use crate::data::fault::Fault;
use crate::data::files;
use crate::module::grants::ConfigValues;

/// Maximum size of a secret, in bytes.
const MAX_SECRET: u64 = 16 << 10;

/// Values that a module can read. They do not implement `Debug`, so that they are not logged.
#[derive(Default, PartialEq, Eq)]
pub(crate) struct Values(BTreeMap<String, Zeroizing<String>>);

impl Values {
    /// Creates values from a map.
    pub fn given(values: &BTreeMap<String, String>) -> Self {
        let own = |(name, value): (&String, &String)| (name.clone(), value.clone().into());
        Self(values.iter().map(own).collect())
    }

    /// Reads the secrets, and adds the values.
    pub fn read(of: &ConfigValues) -> Result<Self, Vec<Fault>> {
        let mut values = Self::given(&of.values);
        let mut faults = Vec::new();
        for (name, file) in &of.secrets {
            match secret(file) {
                Ok(secret) => {
                    values.0.insert(name.clone(), secret);
                }
                Err(fault) => faults.push(fault),
            }
        }
        if faults.is_empty() { Ok(values) } else { Err(faults) }
    }
}

impl Values {
    /// Returns the value of that name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.as_str())
    }

    /// Returns all values with their names.
    pub fn all(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// Reads a secret, without a trailing line break.
fn secret(file: &Path) -> Result<Zeroizing<String>, Fault> {
    let source = files::read(file, MAX_SECRET)?;
    if source.exposed {
        let what = "is a secret that every user of the machine can read; chmod 600";
        return Err(Fault::of(file, what));
    }
    let text = std::str::from_utf8(&source.bytes).map_err(|_| Fault::of(file, "is not UTF-8"))?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    Ok(Zeroizing::new(text.strip_suffix('\r').unwrap_or(text).into()))
}
