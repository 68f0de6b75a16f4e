//! The certificate profile of TS-0003 clause 10.1: verification, and the identity of a peer.
//!
//! Both TLS engines call [`Trust::verify`], so one of them cannot accept a certificate that the
//! other rejects. webpki validates paths, signatures and revocation. This crate adds the key usage
//! and key kinds of the profile, name constraints for oneM2M identifiers, and the rule of exactly
//! one identity.
//!
//! The crate performs no I/O.
//!
//! Read the parts in this order:
//!
//! 1. [`Flavour`] and [`Identity`]: the kinds of certificates, and the names in them (TS-0003
//!    clauses 8.1.2.5 and 10.1).
//! 2. [`Anchor`], [`TrustBuilder`] and [`Trust`]: trust anchors with the flavors that they may
//!    issue, revocation lists, and pinned public keys ([`PublicKeyId`], clause 10.1.2).
//! 3. [`Trust::verify`] and [`Trust::verify_key`], with the result [`VerifiedPeer`] or
//!    [`Rejection`].
//! 4. [`OwnCertificate`]: the certificate and key of this process. [`pem`] parses files,
//!    [`summary()`] describes a certificate for operators.
//!
//! # Example
//!
//! ```
//! use saegis_certificate::{Anchor, Flavour, KeyKind, Names, Purpose, TrustBuilder};
//! use saegis_onem2m::id::CseId;
//! use saegis_test_ca::{Authority, Name, Request};
//! use std::time::SystemTime;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // The gateway is the CSE /mn-1, and trusts one authority for AE-ID certificates.
//! let own = Names::of(CseId::parse("/mn-1")?, Some("in.provider.com".into()));
//! let authority = Authority::new(&Request::new("AE authority"))?;
//! let anchor = Anchor::new(authority.der().clone(), &[Flavour::AeId], &[KeyKind::P256], &[])?;
//! let mut trust = TrustBuilder::new(own);
//! trust.add_anchor(anchor);
//! let trust = trust.build();
//!
//! // A device presents the certificate of an AE.
//! let ae_id = "//in.provider.com/mn-1/Clight";
//! let issued = authority.issue(&Request::new("light").name(Name::uri(ae_id)))?;
//! let peer = trust.verify(issued.chain(), Purpose::Client, SystemTime::now())?;
//!
//! assert_eq!(peer.identity.to_string(), "the AE-ID //in.provider.com/mn-1/Clight");
//! # Ok(())
//! # }
//! ```

mod flavour;
mod identity;
mod key_kind;
mod limits;
mod name_constraints;
mod operator;
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
pub use operator::{OperatorName, OperatorNameError, check_operator_anchor};
pub use own::{OwnCertificate, OwnError};
pub use public_key::{PublicKeyId, PublicKeyIdError};
pub use rejection::Rejection;
pub use summary::{Summary, list_times, summary};
pub use trust::{Anchor, AnchorError, Trust, TrustBuilder};
pub use verified_peer::VerifiedPeer;
pub use verify::Purpose;
