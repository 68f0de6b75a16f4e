//! The user behind a TCP connection of the same machine.
//!
//! Linux lists the sockets of a network namespace with their users in `/proc/net/tcp` and
//! `/proc/net/tcp6`. The socket of the peer has the two addresses of this end in exchanged order.
//! As long as this end is connected, no other socket can be connected with these two addresses. So
//! an entry of the list is valid if this end is still connected after the list was read.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::TcpStream;

/// State of a connected socket in the list.
const ESTABLISHED: &str = "01";

/// Returns the user ID of the process that created the socket of the peer. Returns `None` if the
/// peer has closed its end or is not on this machine.
///
/// # Errors
/// Fails if the connection is broken or the list cannot be read.
pub async fn user(socket: &TcpStream) -> io::Result<Option<u32>> {
    let (own, peer) = (socket.local_addr()?, socket.peer_addr()?);
    let listed = tokio::task::spawn_blocking(move || find(peer, own)).await??;
    // It fails after the peer has reset the connection. Then another socket could have the same
    // addresses.
    socket.peer_addr()?;
    Ok(listed)
}

/// Returns the user of the connected socket with those addresses.
fn find(local: SocketAddr, remote: SocketAddr) -> io::Result<Option<u32>> {
    for list in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let file = match File::open(list) {
            Ok(file) => file,
            // A kernel without IPv6 does not have that list.
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(e),
        };
        // The first line has the column names.
        for line in BufReader::new(file).lines().skip(1) {
            if let Some(user) = user_in(&line?, local, remote) {
                return Ok(Some(user));
            }
        }
    }
    Ok(None)
}

/// Returns the user in a line of the list, if the line is for the connected socket with those
/// addresses.
fn user_in(line: &str, local: SocketAddr, remote: SocketAddr) -> Option<u32> {
    let mut columns = line.split_ascii_whitespace().skip(1);
    let is = |column: &str, address: SocketAddr| {
        parse(column) == Some((address.ip().to_canonical(), address.port()))
    };
    if !is(columns.next()?, local) || !is(columns.next()?, remote) {
        return None;
    }
    if columns.next()? != ESTABLISHED {
        return None;
    }
    // Queues, timer and retransmissions are in between.
    columns.nth(3)?.parse().ok()
}

/// Parses an address: words of 32 bits in the byte order of this machine, and the port.
fn parse(column: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = column.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| {
        let digits = address.get(at * 8..at * 8 + 8)?;
        u32::from_str_radix(digits, 16).ok().map(u32::to_ne_bytes)
    };
    let address = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let bytes = [word(0)?, word(1)?, word(2)?, word(3)?].concat();
            IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?))
        }
        _ => return None,
    };
    Some((address.to_canonical(), port))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[cfg(target_endian = "little")]
    #[test]
    fn proc_net_line_is_parsed() {
        let line = "   1: 0100007F:BBA4 0100007F:1F90 01 00000000:00000000 00:00000000 00000000  1000        0 8423";
        let at = |text: &str| text.parse().unwrap();
        let (local, remote) = (at("127.0.0.1:48036"), at("127.0.0.1:8080"));
        assert_eq!(user_in(line, local, remote), Some(1000));
        assert_eq!(user_in(line, remote, local), None);
        assert_eq!(user_in(&line.replace(" 01 ", " 05 "), local, remote), None, "half closed");
        let mapped = line.replace("0100007F:", "0000000000000000FFFF00000100007F:");
        assert_eq!(user_in(&mapped, local, remote), Some(1000));
        let six = line.replace("0100007F:", "00000000000000000000000001000000:");
        assert_eq!(user_in(&six, at("[::1]:48036"), at("[::1]:8080")), Some(1000));
        for bad in ["", "1:", "1: 0100007F:BBA4", "1: x:1 y:2 01", &line[..60]] {
            assert_eq!(user_in(bad, local, remote), None, "{bad}");
        }
    }

    #[tokio::test]
    async fn user_of_peer_is_found_until_close() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            // There may be no IPv6.
            let Ok(listener) = TcpListener::bind(address).await else { continue };
            let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (socket, _) = listener.accept().await.unwrap();
            let own = rustix::process::geteuid().as_raw();
            assert_eq!(user(&socket).await.unwrap(), Some(own));
            assert_eq!(user(&client).await.unwrap(), Some(own));
            drop(client);
            assert!(!matches!(user(&socket).await, Ok(Some(_))));
        }
    }

    #[tokio::test]
    async fn reset_connection_has_no_user() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        client.set_zero_linger().unwrap();
        drop(client);
        assert!(user(&socket).await.is_err());
    }
}
