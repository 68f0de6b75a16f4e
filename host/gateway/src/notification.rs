//! Notifications to AEs, to peer CSEs and to allowed addresses.

pub mod ae_channels;
pub mod ae_connections;
mod ae_datagrams;
pub mod failure;
mod fair_limiter;
pub mod relay;
pub mod relay_address;
pub mod resolver;
mod response;
pub mod sender;
mod waiting;
