//! A certification authority for trials and tests: certificates of every flavor of TS-0003 clause
//! 10.1, with their chains, keys and revocation lists.
//!
//! It holds keys in memory and writes no files. Do not run a service with it: its keys are not
//! protected.
//!
//! Start with [`Authority`], which turns a [`Request`] with its [`Name`]s into an [`Issued`]
//! certificate. [`Example`] has the certificates of the worked example.
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

/// The reason why a certificate or list cannot be created.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// A text is not an object identifier.
    #[error("{0:?} is not an object identifier, such as 1.3.6.1.4.1.9999.1")]
    Oid(String),
    /// rcgen failed.
    #[error("cannot create the certificate: {0}")]
    Certificate(#[from] rcgen::Error),
}
