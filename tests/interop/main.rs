//! ACME behind the gateway: a CSE that this project did not write, as two lights see it, and what
//! it lets them do to each other where there is no gateway.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
#![allow(clippy::indexing_slicing, reason = "tests")]

mod acme;
mod lights;
mod outside;
mod speaking;
mod three_ways;
