//! Notifications to AEs, to peer CSEs and to allowed addresses.

pub mod ae_channels;
pub mod ae_connections;
mod ae_datagrams;
mod credential_holder;
pub mod failure;
mod fair_limiter;
pub mod relay;
pub mod relay_address;
pub mod request_queue;
pub mod resolver;
mod response;
pub mod sender;
mod waiting;
