//! Administration of a running gateway over a Unix socket that only its owner may use, its metrics, and
//! its web page.

pub mod ae_removal;
pub mod backup;
pub mod commands;
pub mod metrics_endpoint;
pub mod protocol;
pub mod reloaded;
pub mod remedies;
pub mod rollout;
pub mod status;
pub mod unix_socket;
pub mod web;
pub mod web_access;

pub use unix_socket::Admin;
