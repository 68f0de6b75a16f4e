//! Limits of input from peers.

/// Maximum size of a certificate, in bytes.
pub const MAX_CERTIFICATE: usize = 16 << 10;
/// Maximum number of certificates in a chain, without its anchor.
pub const MAX_CHAIN: usize = 6;
