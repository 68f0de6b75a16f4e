//! The certificate profile of TS-0003 clause 10.1 and who a certificate stands for.
//!
//! There is one verification, [`Trust::verify`], and both TLS engines ask it, so that a certificate
//! can't be accepted by one engine and refused by the other. Path validation, signatures and
//! revocation are webpki's; what is on top of it is in here: the key usage and key kinds of the
//! profile, name constraints on the identifiers of oneM2M, and exactly one identity.
//!
//! Nothing here does I/O, and nothing waits.

mod flavour;
mod identity;
mod key_kind;
mod limits;
mod name_constraints;
mod own;
mod parsed;
pub mod pem;
mod public_key;
mod rejection;
mod summary;
mod trust;
mod verified_chains;
mod verified_peer;
mod verify;

pub use flavour::Flavour;
pub use identity::{Identity, Names};
pub use key_kind::{KeyKind, UnsupportedKey};
pub use limits::{MAX_CERTIFICATE, MAX_CHAIN};
pub use own::{OwnCertificate, OwnError};
pub use public_key::{PublicKeyId, PublicKeyIdError};
pub use rejection::Rejection;
pub use summary::{Summary, list_times, summary};
pub use trust::{Anchor, AnchorError, Trust, TrustBuilder};
pub use verified_peer::VerifiedPeer;
pub use verify::Purpose;
