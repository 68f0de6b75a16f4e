//! `wasi:config`: values and secrets that the settings have for one module.
//!
//! The interface is WASI's, and what is behind it ours: the crate that comes with the runtime keeps
//! values in memory that nobody wipes.

use std::collections::BTreeMap;
use std::path::Path;

use wasmtime::Result;
use zeroize::Zeroizing;

use crate::data::fault::Fault;
use crate::data::files;
use crate::host::bindings::wasi::config::store;
use crate::host::call::Call;
use crate::module::grants::ConfigValues;

/// Largest secret, in bytes.
const MAX_SECRET: u64 = 16 << 10;

/// What a module reads. It is in no log: there is no `Debug` of it.
#[derive(Default, PartialEq, Eq)]
pub(crate) struct Values(BTreeMap<String, Zeroizing<String>>);

impl Values {
    /// Values that somebody gives.
    pub fn given(values: &BTreeMap<String, String>) -> Self {
        let own = |(name, value): (&String, &String)| (name.clone(), value.clone().into());
        Self(values.iter().map(own).collect())
    }

    /// Reads the secrets, and adds the values.
    pub fn read(of: &ConfigValues) -> std::result::Result<Self, Vec<Fault>> {
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

/// A secret, without the line's end that editors put there.
fn secret(file: &Path) -> std::result::Result<Zeroizing<String>, Fault> {
    let source = files::read(file, MAX_SECRET)?;
    if source.exposed {
        let what = "is a secret that every user of the machine may read; chmod 600";
        return Err(Fault::of(file, what));
    }
    let text = std::str::from_utf8(&source.bytes).map_err(|_| Fault::of(file, "is not UTF-8"))?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    Ok(Zeroizing::new(text.strip_suffix('\r').unwrap_or(text).into()))
}

impl store::Host for Call {
    fn get(&mut self, key: String) -> Result<std::result::Result<Option<String>, store::Error>> {
        let values = self.io().config.as_ref();
        let found = values.and_then(|values| values.0.get(&key));
        Ok(Ok(found.map(|value| value.as_str().into())))
    }

    fn get_all(&mut self) -> Result<std::result::Result<Vec<(String, String)>, store::Error>> {
        let all = self.io().config.iter().flat_map(|values| values.0.iter());
        Ok(Ok(all.map(|(name, value)| (name.clone(), value.as_str().into())).collect()))
    }
}
