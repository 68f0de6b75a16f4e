//! Access control: who asks, what policies grant, and the identities that resources name.

pub(crate) mod decision;
pub(crate) mod grants;
pub(crate) mod names;
pub(crate) mod originator;
