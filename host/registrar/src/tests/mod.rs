//! The registrar from outside: requests and answers.

mod containers;
mod discovery;
mod durability;
mod groups;
mod notifications;
mod parameters;
mod polling;
mod registration;
mod sequences;
mod subscriptions;
