//! Encryption of the entries of a store, which is in the hands of somebody else: a file, or a
//! database.
//!
//! A [`Vault`] has the keys of one store. It yields the ID under which an entry is stored
//! ([`EntryId`]), and encrypts the content of the entry for its table and ID. Both follow from a
//! [`StoreKey`], which is kept apart from the store. The crate has no I/O.
//!
//! An attacker with the store but without its key can delete entries, and restore a former entry of the
//! same table and ID. The attacker cannot read, change or exchange entries.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use saegis_vault::{StoreKey, Vault};
//!
//! const CLIENTS: u8 = 1;
//! let key = StoreKey::parse("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f")?;
//! let vault = Vault::new(&key, "an example");
//! let light = vault.entry_id(CLIENTS, "Clight");
//! let sealed = vault.seal(CLIENTS, &light, b"content")?;
//! assert_eq!(vault.open(CLIENTS, &light, &sealed).as_deref().map(Vec::as_slice), Some(&b"content"[..]));
//! let plug = vault.entry_id(CLIENTS, "Cplug");
//! assert!(vault.open(CLIENTS, &plug, &sealed).is_none());
//! # Ok(())
//! # }
//! ```

mod store_key;
mod vault;

pub use store_key::{StoreKey, StoreKeyError};
pub use vault::{EntryId, SealError, Vault};
