//! Bounds on what is read of a peer.

/// Largest certificate, in bytes.
pub const MAX_CERTIFICATE: usize = 16 << 10;
/// Most certificates of a chain, its anchor not counted.
pub const MAX_CHAIN: usize = 6;
