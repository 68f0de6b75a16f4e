//! The registrar from outside: requests and answers.

mod containers;
mod discovery;
mod durability;
mod notifications;
mod parameters;
mod registration;
mod sequences;
mod subscriptions;
