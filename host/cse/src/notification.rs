//! Subscriptions, and the delivery of notifications and of late results.

pub(crate) mod aggregation;
pub(crate) mod answer;
pub(crate) mod asynchronous;
pub(crate) mod awaiting;
pub(crate) mod blocking;
pub(crate) mod collection;
pub(crate) mod criteria;
pub(crate) mod delivery;
pub(crate) mod due;
pub(crate) mod events;
pub(crate) mod forwarding;
pub(crate) mod long_poll;
pub(crate) mod message;
pub(crate) mod missing_data;
pub(crate) mod monitor;
pub(crate) mod outbox;
pub(crate) mod point_of_access;
pub(crate) mod policy;
pub(crate) mod retry;
pub(crate) mod schedule;
pub(crate) mod sending;
pub(crate) mod statistics;
pub(crate) mod subscription;
pub(crate) mod verification;
pub(crate) mod waiting;
