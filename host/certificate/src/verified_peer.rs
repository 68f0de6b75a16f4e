//! The result of a verification.

use std::time::SystemTime;

use crate::identity::Identity;

/// A verified certificate or raw public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedPeer {
    /// Identity of the peer.
    pub identity: Identity,
    /// Earliest end of validity in the chain; `None` for a raw public key.
    pub until: Option<SystemTime>,
    /// Positions of the certificates in the input that form the chain.
    pub chain: Vec<usize>,
}
