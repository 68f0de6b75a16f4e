//! The server of Saegis, a oneM2M security gateway: listeners, security associations, bindings, the
//! request pipeline and the CSE or MAF behind it.
//!
//! A request passes these modules in this order: [`server`] accepts the connection, `session` lists the
//! association that the handshake established, `binding` decodes the request primitive, `pipeline`
//! checks it against policy and routes it, `backend` or `peer_cse` carries it out, and the binding
//! encodes the response primitive. [`telemetry`] records each step.

pub mod admin;
pub mod backend;
mod binding;
pub mod config;
pub mod hardening;
mod keyed_limiter;
mod listener;
mod low_priority;
mod maf_keys;
mod notification;
mod peer_certificates;
pub mod peer_cse;
mod pipeline;
pub mod server;
mod session;
mod state;
mod subscription;
pub mod telemetry;
mod usage;
