//! Notifications: to AEs, to other CSEs and to addresses that are allowed.

pub mod ae_connections;
pub mod relay;
pub mod resolver;
pub mod sender;
