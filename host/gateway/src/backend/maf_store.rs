//! Store of an M2M Authentication Function (TS-0003 clause 8.8), and the key that encrypts it.

use std::path::Path;
use std::sync::Arc;

use saegis_maf::{Maf, StoreKey};
use saegis_policy::{Fault, Faults};
use zeroize::Zeroizing;

use crate::config::maf::MafSettings;

/// Maximum size of a file with a store key, in bytes.
const MAX_KEY_FILE: u64 = 4096;

/// Environment variable with the store key, if no file is configured.
const KEY_VARIABLE: &str = "SAEGIS_MAF_STORE_KEY";

/// Opens the store of a MAF.
///
/// # Errors
/// Returns the faults of the store or of its key.
pub fn open(authority: &MafSettings) -> Result<Arc<Maf>, Faults> {
    let key = store_key(authority.store_key_file.as_deref())?;
    let store = &authority.store;
    let fault = |what: String| Faults(vec![Fault::of(store, what)]);
    if let Some(folder) = store.parent() {
        std::fs::create_dir_all(folder)
            .map_err(|e| fault(format!("cannot create its folder: {e}")))?;
    }
    let opened = Maf::open(store, &key, authority.settings()?);
    opened.map(Arc::new).map_err(|e| fault(e.to_string()))
}

/// Checks the settings of a MAF other than its policy, without opening the store.
///
/// # Errors
/// Returns the faults of its name or of the store key.
pub fn check(authority: &MafSettings) -> Result<(), Faults> {
    authority.settings()?;
    store_key(authority.store_key_file.as_deref()).map(drop)
}

fn store_key(file: Option<&Path>) -> Result<StoreKey, Faults> {
    match file {
        Some(file) => {
            let fault = |what: String| Faults(vec![Fault::of(file, what)]);
            let bytes = saegis_policy::read_private_key(file, MAX_KEY_FILE);
            let bytes = bytes.map_err(|fault| Faults(vec![fault]))?;
            let text = std::str::from_utf8(&bytes).map_err(|_| fault("is not UTF-8".into()))?;
            StoreKey::parse(text.trim()).map_err(|e| fault(e.to_string()))
        }
        None => {
            let fault = |what: String| Faults(vec![Fault::of(Path::new(KEY_VARIABLE), what)]);
            let text = std::env::var(KEY_VARIABLE).map(Zeroizing::new).map_err(|_| {
                fault(
                    "is not set, and neither is maf.store-key-file; one of them must provide the store key"
                        .into(),
                )
            })?;
            StoreKey::parse(text.trim()).map_err(|e| fault(e.to_string()))
        }
    }
}

/// Re-encrypts the store with another key.
///
/// # Errors
/// Returns the faults of the store or of a key. The store is then unchanged.
pub fn reencrypt(authority: &MafSettings, new: &Path) -> Result<(), Faults> {
    let old = store_key(authority.store_key_file.as_deref())?;
    let new = store_key(Some(new))?;
    saegis_maf::reencrypt(&authority.store, &old, &new)
        .map_err(|e| Faults(vec![Fault::of(&authority.store, e.to_string())]))
}
