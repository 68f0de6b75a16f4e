//! ACME, a CSE from another project. The suites use it behind the gateway, without a gateway, and
//! as the IN-CSE of a home gateway.

mod acme;
mod infrastructure;
mod lights;
mod mqtt;
mod outside;
#[path = "../tests/system/peers/pair.rs"]
#[allow(dead_code, reason = "shared with a suite that needs more of it")]
mod pair;
mod published;
mod registree;
mod speaking;
mod three_ways;
mod tunnel;
