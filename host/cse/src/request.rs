//! Requests: their parameters, common checks, and their context.

pub(crate) mod checks;
pub(crate) mod context;
pub(crate) mod expiration;
pub(crate) mod filter_criteria;
pub(crate) mod parameters;
