//! The resource types: their attributes, their rules, and lookups of resources.

pub(crate) mod access_contexts;
pub(crate) mod access_rules;
pub(crate) mod access_tables;
pub(crate) mod address;
pub(crate) mod ae_announcement;
pub(crate) mod announced;
pub(crate) mod announcement_tables;
pub(crate) mod attributes;
pub(crate) mod children;
pub(crate) mod content_instance;
pub(crate) mod links;
pub(crate) mod location_policy;
pub(crate) mod management;
pub(crate) mod notification_target;
pub(crate) mod registrant;
pub(crate) mod remote_cse;
pub(crate) mod representation;
pub(crate) mod schedule;
pub(crate) mod schema;
pub(crate) mod service_subscription;
pub(crate) mod tables;
pub(crate) mod time_series;
pub(crate) mod values;
