//! Access control: the originator with its roles, the privileges that policies grant it, and the
//! names in resources.

pub(crate) mod allowed_attributes;
pub(crate) mod decision;
pub(crate) mod grants;
pub(crate) mod membership;
pub(crate) mod names;
pub(crate) mod originator;
pub(crate) mod requester;
pub(crate) mod roles;
pub(crate) mod rule;
pub(crate) mod tokens;
