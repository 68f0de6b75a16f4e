//! Configuration of a gateway, `saegis.toml`, of a MAF, `maf.toml`, or of a MEF, `mef.toml`.

mod check;
mod coap;
pub mod folders;
mod listen_address;
mod load;
pub mod maf;
mod maf_file;
pub mod mef;
mod modules;
mod mqtt;
mod notification_targets;
pub mod oci_registry;
mod peer;
pub mod private_file;
pub mod private_state;
mod proxy_protocol;
mod renamed;
mod sections;
mod server_config;
mod signature;
mod telemetry;
mod web;
mod web_remote;
mod websocket;

pub use coap::Coap;
pub use listen_address::ListenAddress;
pub use load::{Loaded, read};
pub use modules::Modules;
pub use mqtt::Mqtt;
pub use notification_targets::{Allowed, NotAllowed, bare};
pub use peer::{Peer, check_means};
pub use proxy_protocol::ProxyProtocol;
pub use sections::{
    Admin, AeIds, Limits, Listen, MAX_RESPONSE, Notifications, Policy, Quota, RequestLimits,
    RuleSource, ServiceSubscription, ThisCse, Upstream, shared_if_there,
};
pub use server_config::{Config, Role};
pub use telemetry::{Audit, Decisions, Log, LogFormat, Metrics};
pub use web::Web;
pub use web_remote::Remote;
pub use websocket::WebSocket;
