//! Access control: the originator, what policies grant it, and the names in resources.

pub(crate) mod decision;
pub(crate) mod grants;
pub(crate) mod names;
pub(crate) mod originator;
