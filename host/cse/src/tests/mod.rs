//! Tests of the CSE's interface: requests and answers.

mod announcements;
mod attribute_rules;
mod budgets;
mod containers;
mod cses;
mod deliveries;
mod discovery;
mod durability;
mod groups;
mod names;
mod names_members;
mod names_migration;
mod notifications;
mod parameters;
mod policies;
mod policies_contexts;
mod policies_discovery;
mod policies_random;
mod polling;
mod registration;
mod sequences;
mod service_subscriptions;
mod subscriptions;
