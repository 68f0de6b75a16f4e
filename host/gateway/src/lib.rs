//! Server of Saegis, a oneM2M security gateway.
//!
//! # Path of a request
//!
//! 1. [`server`] accepts the connection, reads the address of the client from the header of a load
//!    balancer, and applies the limits of `listener` per peer address.
//! 2. The crate `saegis-handshake` performs the handshake: TLS-PSK or certificates. `session` looks up
//!    the credential in the policy, lists the association, and revalidates it with each new
//!    generation.
//! 3. `binding` decodes the request primitive from the bytes of its protocol.
//! 4. `pipeline` checks the request against policy and routes it: originator, forwarded originator,
//!    registration, announcement and key registration.
//! 5. [`backend`] handles a request to this CSE: with the embedded CSE, with an upstream CSE over
//!    HTTP, or as a MAF. A MEF issues certificates (`pipeline/enrollment.rs`). [`peer_cse`] forwards a request to another CSE.
//! 6. The binding encodes the response primitive. `session` holds the memory of large responses until
//!    the peer has read them.
//!
//! [`telemetry`] records each step: log, audit trails, recorded decisions and metrics.
//!
//! # Requests in the other direction
//!
//! `notification` sends notifications to AEs, to peer CSEs and to allowed addresses. To notify an AE, the
//! gateway acts as the client and the AE as the server. The notification relay forwards notifications of
//! an upstream CSE to AEs over associations. `maf_keys` fetches the keys that MAFs distribute.
//!
//! # State
//!
//! `state` has everything that connections share. A handshake or a request uses one immutable
//! generation of policy from start to end (crate `saegis-policy`). On disk are the store of the embedded
//! CSE, the AE-IDs that registrations assigned, and the cached service subscription. [`config`] is read
//! once, at the start; [`admin`] has the operations on a running gateway. [`devices`] edits the policy files of
//! devices, for `saegis device` and the web page.
//!
//! # Failure
//!
//! Every step fails closed: a request that cannot be checked is refused. Everything that a peer can
//! cause is limited: connections, handshakes, requests, memory and log lines. The embedded CSE commits a
//! change only while the association of its originator is valid.

// The future of a request nests deeper than the default allows.
#![recursion_limit = "256"]

pub mod admin;
pub mod backend;
mod binding;
pub mod config;
pub mod devices;
pub mod hardening;
mod keyed_limiter;
mod listener;
mod low_priority;
mod maf_keys;
mod notification;
mod peer_certificates;
pub mod peer_cse;
mod pipeline;
pub mod replaced_file;
pub mod server;
mod session;
mod state;
mod subscription;
pub mod telemetry;
