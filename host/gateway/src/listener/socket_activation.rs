//! Listening sockets of the gateway, and notifications to the service manager.
//!
//! A service manager can hold the listening socket and pass it to the gateway (socket activation:
//! the environment variables `LISTEN_FDS` and `LISTEN_PID`). Connections then wait in the socket
//! while one gateway ends and the next starts, and none is refused.

use std::io;
use std::net::{SocketAddr, TcpListener};

use listenfd::ListenFd;
use sd_notify::NotifyState;
use tokio::net::TcpSocket;

use crate::config::ListenAddress;

/// Maximum number of pending connections in the kernel. The kernel has its own limit
/// (`net.core.somaxconn`).
const BACKLOG: u32 = 4096;

/// Returns `count` listeners of the socket that was passed by the service manager, or of new ones at
/// `address`.
///
/// # Errors
/// Fails if the address cannot be bound, or if the passed socket is not a listening TCP socket.
pub async fn listeners(address: &ListenAddress, count: usize) -> io::Result<Vec<TcpListener>> {
    let mut handed_over = ListenFd::from_env();
    if handed_over.len() > 1 {
        let what =
            format!("the service manager passed {} sockets, expected one", handed_over.len());
        return Err(io::Error::other(what));
    }
    if handed_over.len() == 1
        && let Some(listener) = handed_over.take_tcp_listener(0)?
    {
        if !rustix::net::sockopt::socket_acceptconn(&listener)? {
            return Err(io::Error::other("the socket from the service manager does not listen"));
        }
        listener.set_nonblocking(true)?;
        // The duplicates have one queue of connections.
        let mut all = (1..count).map(|_| listener.try_clone()).collect::<io::Result<Vec<_>>>()?;
        all.push(listener);
        return Ok(all);
    }
    bind(address, count).await
}

/// Returns `count` new listeners at `address`, among which the kernel distributes the connections.
///
/// # Errors
/// Fails if the address cannot be bound.
pub async fn bind(address: &ListenAddress, count: usize) -> io::Result<Vec<TcpListener>> {
    let mut failed = None;
    for address in address.candidates().await? {
        match listeners_at(address, count) {
            Ok(listeners) => return Ok(listeners),
            Err(e) => failed = failed.or(Some(e)),
        }
    }
    Err(failed.unwrap_or_else(|| io::Error::other("there is no address")))
}

fn listeners_at(address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    // The first one is bound without SO_REUSEPORT, so that it fails if another process uses the
    // address.
    let first = socket_for(address)?;
    first.bind(address)?;
    let address = first.local_addr()?;
    first.set_reuseport(true)?;
    let mut all = vec![first.listen(BACKLOG)?.into_std()?];
    for _ in 1..count {
        let next = socket_for(address)?;
        next.set_reuseport(true)?;
        next.bind(address)?;
        all.push(next.listen(BACKLOG)?.into_std()?);
    }
    Ok(all)
}

fn socket_for(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // As after a restart, when connections of the previous process may linger.
    socket.set_reuseaddr(true)?;
    Ok(socket)
}

/// Notifies the service manager, if there is one, that the gateway is ready.
pub fn tell_ready() {
    tell(NotifyState::Ready);
}

/// Notifies the service manager, if there is one, that the gateway is stopping.
pub fn tell_stopping() {
    tell(NotifyState::Stopping);
}

fn tell(state: NotifyState<'_>) {
    if let Err(e) = sd_notify::notify(&[state]) {
        tracing::warn!(event = "service-manager.failed", "cannot notify the service manager: {e}");
    }
}
