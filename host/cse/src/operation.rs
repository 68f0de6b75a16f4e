//! The operations on resources.

pub(crate) mod announcement;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod discovery;
pub(crate) mod error;
pub(crate) mod execute;
pub(crate) mod fan_out;
pub(crate) mod flex_container;
pub(crate) mod group;
pub(crate) mod indexed;
pub(crate) mod location;
pub(crate) mod quota;
pub(crate) mod request_status;
pub(crate) mod resource_id;
pub(crate) mod retrieve;
pub(crate) mod specialization;
pub(crate) mod stored_request;
pub(crate) mod tree_walk;
pub(crate) mod update;
