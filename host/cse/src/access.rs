//! Access control: who asks, what policies grant, and the identities that resources name.

pub(crate) mod context;
pub(crate) mod decision;
pub(crate) mod names;
pub(crate) mod originator;
pub(crate) mod policy;
