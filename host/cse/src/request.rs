//! A request: its parameters, the checks that every request passes, and its context.

pub(crate) mod checks;
pub(crate) mod context;
pub(crate) mod filter_criteria;
pub(crate) mod parameters;
