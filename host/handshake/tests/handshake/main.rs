//! Handshakes, with OpenSSL's library and clients of others as the other side.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod datagram_client;
mod datagram_clients;
mod datagram_run;
mod datagrams;
mod setup;
mod unproved;
