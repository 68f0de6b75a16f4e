//! Harness of the suites. It drives the real gateway from outside, with clients of other projects.
//!
//! A test prepares the folder of a gateway ([`Setup`]), starts it ([`Gateway`]), connects the
//! command line of OpenSSL or GnuTLS ([`Tool`], [`Client`]), and waits for log lines ([`Log`]). The
//! harness knows only the command line, the files and the wire format of the product.

mod ae;
mod binding;
mod broker;
mod browser;
pub mod certificates;
mod client;
mod coap;
mod coap_clients;
mod code_cache;
mod command_line;
mod gateway;
mod http;
mod light;
mod listening;
mod load_balancer;
mod log;
mod lossy;
mod minisign;
pub mod mqtt;
mod paths;
mod process;
mod script;
mod setup;
mod source;
mod token;
mod upstream;
mod waiting;
pub mod wasm;
mod web;
mod websocket;

pub use ae::Ae;
pub use binding::{Answer, Association, Binding, Primitive};
pub use broker::{Broker, BrokerConnection, Published};
pub use browser::Browser;
pub use client::{Client, Credential, LIGHT1, LIGHT2, Offer, RefusedHandshake, Tool};
pub use coap::{
    CCM_8, CoapLight, CoapMessage, ListeningCoapAe, first_flight, hello_with_cookie,
    socket as udp_socket,
};
pub use coap_clients::{DtlsClient, DtlsLibrary, aiocoap};
pub use command_line::{
    CommandOutput, Monitored, curl, derived_by_openssl, openssl, output_of, run_and_kill, saegis,
};
pub use gateway::Gateway;
pub use http::{Message, Request, Response};
pub use light::Light;
pub use listening::ListeningAe;
pub use load_balancer::{HaProxy, local_proxy_header, proxy_header, proxy_header_of};
pub use log::{Event, Log, Mark};
pub use lossy::{Faults, LossyRelay};
pub use minisign::Signer;
pub use mqtt::Mqtt;
pub use paths::{acme as acme_program, binary as program, component, repository};
pub use process::{BOUND, Running};
pub use script::{Script, certification_request, run_agent, run_pyjwt};
pub use setup::Setup;
pub use source::connect_from;
pub use token::{TokenIssuer, base64url, token_claims, unix_time};
pub use upstream::{REQUEST_ID, Reply, Upstream};
pub use waiting::{eventually, seconds_from_now, wait_until};
pub use web::{WebSession, host_and_path, read_until};
pub use websocket::WebSocket;

/// Creates an OpenSSL test and a GnuTLS test for each function that takes a [`Tool`].
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
