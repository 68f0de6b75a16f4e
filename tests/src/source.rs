//! Connections from other loopback addresses.

use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};

use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

/// Connects from an address of the loopback network.
pub fn connect_from(source: &str, port: u16) -> TcpStream {
    let source: Ipv4Addr = source.parse().expect("an IPv4 address");
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    bind(&socket, &SocketAddrV4::new(source, 0)).expect("an address of this machine");
    connect(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)).expect("a connection");
    socket.into()
}
