//! The result of a verification.

use std::time::SystemTime;

use crate::identity::Identity;

/// A certificate, or a raw public key, that we believe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedPeer {
    /// Whom it names.
    pub identity: Identity,
    /// From when on the first certificate of its chain is valid no more; a key has no end.
    pub until: Option<SystemTime>,
    /// Which certificates of what was shown made the chain, by their places in it.
    pub chain: Vec<usize>,
}
