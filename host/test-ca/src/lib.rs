//! A certification authority for trials and tests: certificates of every flavour of TS-0003 clause
//! 10.1, with their chains, keys and revocation lists.
//!
//! It keeps keys in memory and nothing anywhere else; who wants files writes them. It is no
//! authority to run a service with: nobody watches over its keys.
//!
//! ```
//! use saegis_test_ca::{Authority, Name, Request};
//!
//! # fn main() -> Result<(), saegis_test_ca::TrialError> {
//! let root = Authority::new(&Request::new("Trial CSEs").permit(Name::dns("provider.com")))?;
//! let gateway = root.issue(&Request::new("mn-1").name(Name::dns("mn-1.in.provider.com")))?;
//! let list = root.revoke(&[gateway.serial()])?;
//! assert!(gateway.chain_pem().starts_with("-----BEGIN CERTIFICATE-----"));
//! assert!(gateway.key_pem().starts_with("-----BEGIN PRIVATE KEY-----"));
//! assert!(list.pem().starts_with("-----BEGIN X509 CRL-----"));
//! # Ok(())
//! # }
//! ```

mod authority;
mod der;
mod example;
mod issued;
mod name;
mod request;

pub use authority::Authority;
pub use example::{Example, ExampleNames};
pub use issued::{Issued, RawKey, RevocationList};
pub use name::Name;
pub use rcgen::{ExtendedKeyUsagePurpose, KeyUsagePurpose, PublicKeyData};
pub use request::{Key, Request, Validity};

/// What can't be made.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// A text that is no object identifier.
    #[error("{0:?} is no object identifier, such as 1.3.6.1.4.1.9999.1")]
    Oid(String),
    /// What the maker of certificates says.
    #[error("the certificate can't be made: {0}")]
    Certificate(#[from] rcgen::Error),
}
