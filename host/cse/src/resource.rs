//! The resource types: their attributes, and the rules of each.

pub(crate) mod access_tables;
pub(crate) mod ae_announcement;
pub(crate) mod attributes;
pub(crate) mod children;
pub(crate) mod content_instance;
pub(crate) mod group;
pub(crate) mod links;
pub(crate) mod quota;
pub(crate) mod registrees;
pub(crate) mod remote_cse;
pub(crate) mod representation;
pub(crate) mod service_subscription;
pub(crate) mod tables;
pub(crate) mod values;
