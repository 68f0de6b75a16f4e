//! An M2M Authentication Function (TS-0003 clause 8.8): clients register, register keys for other
//! clients, and fetch the keys that are meant for them.
//!
//! The crate has no network code and is synchronous. [`Maf::handle`] takes a request with the
//! client of its TLS association. The [`client`] module creates requests and parses responses.
//! [`names`] defines the names on the wire, most of which are specific to this project.
//!
//! Read the parts in this order:
//!
//! 1. [`names`]: resources, types and attributes of the interface.
//! 2. [`Maf`] and [`Settings`], with [`Caller`] and [`KeyRegistration`]: the operations of clauses
//!    8.8.2.3 to 8.8.2.10.
//! 3. The store: encrypted entries under a [`StoreKey`], which [`reencrypt()`] replaces;
//!    [`OpenError`] and [`StoreError`] are its failures.
//! 4. [`client`]: [`client::Client`] and the parsers of responses.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # use std::time::{Duration, SystemTime};
//! # use saegis_onem2m::{credential::PresharedKey, id::{AbsoluteId, CredentialId}};
//! use saegis_maf::client::{Client, KeyTerms, Terms, read_registered_key, read_retrieved_key};
//! use saegis_maf::{Caller, Maf, Settings, StoreKey, names};
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("maf");
//! # let now = SystemTime::now();
//!
//! let key = StoreKey::parse("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f")?;
//! let maf = Maf::open(&path, &key, Settings::new("maf.provider.com")?)?;
//!
//! // The source registers, and registers a key for the gateway.
//! let source = AbsoluteId::parse("//in.provider.com/mn-1/Clight")?;
//! let gateway = AbsoluteId::parse("//in.provider.com/mn-cse-123456")?;
//! let caller = |id: &AbsoluteId| Caller {
//!     id: id.clone(),
//!     credential_id: CredentialId::parse("11-light@maf.provider.com").expect("a Credential-ID"),
//!     exported: None,
//! };
//! let terms = Terms::until(now + Duration::from_secs(3600), "in.provider.com");
//! let base = names::default_base();
//! let light = Client::new(source.clone(), "maf.provider.com", base.clone())?;
//! maf.handle(&caller(&source), &light.register("1", &terms)?, None, now);
//! let value = PresharedKey::new(b"32 bytes of a source of random..")?;
//! let wanted = KeyTerms { terms: terms.clone(), suid: 32, targets: vec![gateway.clone()] };
//! let request = light.register_key("2", &wanted, Some(&value))?;
//! let asked = maf.asks(&source, &request, now);
//! assert_eq!(asked.as_ref().map(|asked| asked.suid), Some(32));
//! let answer = maf.handle(&caller(&source), &request, asked.as_ref(), now);
//! let registered = read_registered_key(&answer, None)?;
//!
//! // The gateway registers, and fetches the key.
//! let client = Client::new(gateway.clone(), "maf.provider.com", base)?;
//! maf.handle(&caller(&gateway), &client.register("3", &terms)?, None, now);
//! let request = client.retrieve_key("4", &registered.relative_key_id)?;
//! let retrieved = read_retrieved_key(&maf.handle(&caller(&gateway), &request, None, now))?;
//! assert_eq!(retrieved.key.expose(), b"32 bytes of a source of random..");
//! assert_eq!(retrieved.source, source);
//! # Ok(())
//! # }
//! ```

mod attributes;
pub mod client;
mod clients;
mod context;
mod decoy;
mod error;
mod expiry;
mod keys;
mod kind;
mod maf;
pub mod names;
mod record;
mod reencrypt;
mod removal;
mod request;
mod settings;
mod state;
mod store;

pub use attributes::{
    AttributeError, MAX_CONTENT, MAX_LABEL, MAX_LABELS, MAX_RELATIVE_ID, MAX_TARGETS, ValueError,
};
pub use context::{Caller, SweepOutcome};
pub use maf::Maf;
pub use reencrypt::reencrypt;
pub use request::{KeyOrigin, KeyRegistration};
pub use saegis_vault::{StoreKey, StoreKeyError};
pub use settings::Settings;
pub use store::{OpenError, StoreError};

#[cfg(test)]
mod key_confidentiality_tests;
#[cfg(test)]
mod maf_tests;
#[cfg(test)]
mod testing;
