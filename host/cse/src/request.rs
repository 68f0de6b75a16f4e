//! A request as it is read: its parameters, its target, and what it may use.

pub(crate) mod checks;
pub(crate) mod context;
pub(crate) mod filter_criteria;
pub(crate) mod parameters;
