//! The registrar from outside: requests and answers.

mod containers;
mod discovery;
mod durability;
mod parameters;
mod registration;
mod sequences;
