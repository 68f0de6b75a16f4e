//! Signed objects in JOSE (RFC 7515): the compact serialization of a JWS, bounded and verified with
//! pinned keys, and its signing.
//!
//! The key determines the algorithm. The header of a token only selects among the pinned keys, and all
//! of these are public keys of signatures. So `none`, a public key as the secret of a MAC, and a key
//! inside the token are not possible.

mod json;
mod jws;
mod key;
mod signing;

pub use json::{JsonError, MAX_DEPTH, read_json};
pub use jws::{JwsError, MAX_JWS, UnverifiedJws};
pub use key::{Algorithm, KeyError, VerificationKey};
pub use signing::{SigningError, SigningKey};
