//! ACME behind the gateway: a CSE that this project did not write, as two lights see it, and what
//! it lets them do to each other where there is no gateway; and as the IN-CSE that a home gateway
//! registers with.

mod acme;
mod infrastructure;
mod lights;
mod outside;
#[path = "../tests/system/peers/pair.rs"]
#[allow(dead_code, reason = "shared with a suite that needs more of it")]
mod pair;
mod speaking;
mod three_ways;
