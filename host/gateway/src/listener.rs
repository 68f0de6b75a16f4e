//! Listening sockets, and limits on their peers.

pub mod host;
pub mod http_body;
pub mod loopback_http;
pub mod loopback_peer;
pub mod peer_limits;
pub mod socket_activation;
pub mod yielding_writer;
