//! Notifications: to AEs, to other CSEs and to addresses that are allowed.

pub mod ae_connections;
mod batches;
pub mod relay;
pub mod relay_address;
pub mod resolver;
pub mod sender;
