//! The certificate profile of TS-0003 clause 10.1 and who a certificate stands for.
//!
//! There is one verification, [`Trust::verify`], and both TLS engines ask it, so that a certificate
//! can't be accepted by one engine and refused by the other. Path validation, signatures and
//! revocation are webpki's; what is on top of it is in here: the key usage and key kinds of the
//! profile, name constraints on the identifiers of oneM2M, and exactly one identity.
//!
//! Nothing here does I/O, and nothing waits.

mod constraints;
mod identity;
mod own;
pub mod pem;
mod public_key;
mod rejection;
mod trust;
mod verify;
mod x509;

pub use identity::{Flavour, Identity, Names};
pub use own::{OwnCertificate, OwnError};
pub use public_key::{PublicKeyId, PublicKeyIdError};
pub use rejection::Rejection;
pub use trust::{Anchor, AnchorError, KeyKind, Trust, TrustBuilder};
pub use verify::{MAX_CERTIFICATE, MAX_CHAIN, Purpose, Vouched};
pub use x509::{Summary, list_times, summary};
