//! Administration of a running gateway over a Unix socket that only its owner may use, and its metrics.

pub mod ae_removal;
pub mod backup;
pub mod metrics_endpoint;
pub mod protocol;
pub mod status;
pub mod unix_socket;

pub use unix_socket::Admin;
