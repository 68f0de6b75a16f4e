//! The kinds of the store's entries.

use saegis_vault::{StoreKey, Vault};

/// Name of the store, which is part of its format.
const STORE: &str = "saegis MAF store";

/// The kind of an entry. Its number is authenticated, and part of the expiry index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// A client registration.
    Client = 1,
    /// A key registration.
    Key = 2,
    /// The proof of the store's key.
    Proof = 3,
}

impl From<Kind> for u8 {
    fn from(kind: Kind) -> Self {
        kind as Self
    }
}

/// Returns the keys of a store.
pub(crate) fn vault_of(key: &StoreKey) -> Vault {
    Vault::new(key, STORE)
}
