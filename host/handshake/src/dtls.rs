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
//! OpenSSL performs the handshake, but not that of servers with TLS_PSK_WITH_AES_128_CCM_8
//! (`psk_handshake`). With authenticated encryption (CCM_8, ChaCha20-Poly1305, GCM), the records of the
//! association after it are encrypted with OpenSSL's ciphers, but without its record layer, which needs
//! 70 KB for each association.
//!
//! A client ([`PskClient`], [`CertificateClient`]) has a socket for each association.

mod channel;
mod client;
mod cookie;
mod engine;
mod identity;
mod link;
mod protection;
mod psk_flights;
mod psk_handshake;
mod read;
mod record;
mod record_layer;
mod server;

pub use channel::Channel;
pub use client::{CertificateClient, Connected, Connection, PskClient};
pub use link::Transport;
pub use read::Read;
pub use record::{ClientHello, is_client_hello};
pub use server::{Accepted, Credentials, DEFAULT_MTU, Hello, PskEngine, Server};
