//! The harness of the suites: the real gateway, driven from outside by clients that this project
//! did not write.
//!
//! A suite sets a gateway up in a folder of its own ([`Setup`]), starts it ([`Gateway`]), connects
//! OpenSSL's or GnuTLS's command line to it ([`Tool`], [`Client`]), and waits for lines of its log
//! ([`Log`]). Nothing here knows the product but by its command line, its files and its wire.

mod ae;
pub mod certificates;
mod client;
mod code_cache;
mod command_line;
mod gateway;
mod http;
mod light;
mod listening;
mod log;
mod minisign;
mod paths;
mod process;
mod setup;
mod source;
mod upstream;
mod waiting;
pub mod wasm;

pub use ae::Ae;
pub use client::{Client, Credential, LIGHT1, LIGHT2, Offer, Refused, Tool};
pub use command_line::{Monitored, Ran, curl, derived_by_openssl, killed, openssl, saegis};
pub use gateway::Gateway;
pub use http::{Message, Request, Response};
pub use light::Light;
pub use listening::ListeningAe;
pub use log::{Event, Log, Mark};
pub use minisign::Signer;
pub use paths::{acme as acme_program, component, repository};
pub use process::{BOUND, Running};
pub use setup::Setup;
pub use source::connect_from;
pub use upstream::{Reply, Upstream};
pub use waiting::{eventually, seconds_from_now, wait_until};

/// Makes a test for OpenSSL and one for GnuTLS of each function that takes a [`Tool`].
#[macro_export]
macro_rules! with_each_client {
    ($($name:ident),* $(,)?) => {
        mod openssl {
            $(#[test] fn $name() { super::$name($crate::Tool::OpenSsl); })*
        }
        mod gnutls {
            $(#[test] fn $name() { super::$name($crate::Tool::GnuTls); })*
        }
    };
}
