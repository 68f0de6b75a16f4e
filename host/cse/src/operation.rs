//! The operations on resources.

pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod discovery;
pub(crate) mod error;
pub(crate) mod execute;
pub(crate) mod fan_out;
pub(crate) mod group;
pub(crate) mod quota;
pub(crate) mod resource_id;
pub(crate) mod retrieve;
pub(crate) mod tree_walk;
pub(crate) mod update;
