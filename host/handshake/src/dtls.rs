//! Associations over datagrams, on both sides: DTLS 1.2 on OpenSSL (TS-0003 clause 10.2).
//!
//! On the server side, one UDP socket carries many associations, so the caller reads the socket and
//! passes each datagram to the handshake or the [`Channel`] of its address. Before that,
//! [`Server::receive`] answers a ClientHello without any state, until it has a cookie that proves
//! the client's address (RFC 6347 clause 4.2.1).
//!
//! In DTLS a wrong key is not reported: the record that it protects is invalid, and dropped. So the
//! handshake ends at its deadline, and an unknown identity is treated in the same way.
//!
//! A client ([`PskClient`], [`CertificateClient`]) has a socket for each association.

mod channel;
mod client;
mod cookie;
mod identity;
mod record;
mod server;

pub use channel::{Channel, Read};
pub use client::{CertificateClient, Connected, Connection, PskClient};
pub use record::{ClientHello, is_client_hello};
pub use server::{Accepted, Credentials, DEFAULT_MTU, Hello, Server, Transport};
