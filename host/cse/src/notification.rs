//! Subscriptions, and the delivery of notifications and of late results.

pub(crate) mod answer;
pub(crate) mod asynchronous;
pub(crate) mod criteria;
pub(crate) mod delivery;
pub(crate) mod events;
pub(crate) mod long_poll;
pub(crate) mod message;
pub(crate) mod outbox;
pub(crate) mod point_of_access;
pub(crate) mod subscription;
pub(crate) mod verification;
