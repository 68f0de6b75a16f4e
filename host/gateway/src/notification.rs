//! Notifications: to AEs, to other CSEs and to addresses that are allowed.

pub mod ae_channels;
pub mod ae_connections;
mod batches;
pub mod failure;
pub mod relay;
pub mod relay_address;
pub mod resolver;
mod response;
pub mod sender;
