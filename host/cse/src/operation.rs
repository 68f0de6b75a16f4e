//! The operations on resources.

pub(crate) mod asynchronous;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod discovery;
pub(crate) mod retrieve;
pub(crate) mod tree_walk;
pub(crate) mod update;
