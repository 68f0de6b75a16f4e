//! A request as it is read: its parameters, its target, and what it may use.

pub(crate) mod budget;
pub(crate) mod context;
pub(crate) mod filter_criteria;
pub(crate) mod notification_criteria;
pub(crate) mod parameters;
pub(crate) mod target;
