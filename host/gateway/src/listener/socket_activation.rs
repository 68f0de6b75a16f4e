//! Listening socket of the gateway, and notifications to the service manager.
//!
//! A service manager can hold the listening socket and pass it to the gateway (socket activation:
//! the environment variables `LISTEN_FDS` and `LISTEN_PID`). Connections then wait in the socket
//! while one gateway ends and the next starts, and none is refused.

use std::io;
use std::net::SocketAddr;

use listenfd::ListenFd;
use sd_notify::NotifyState;
use tokio::net::{TcpListener, TcpSocket};

use crate::config::ListenAddress;

/// Maximum number of pending connections in the kernel. The kernel has its own limit
/// (`net.core.somaxconn`).
const BACKLOG: u32 = 4096;

/// Returns the socket that was passed by the service manager, or a new one at `address`.
///
/// # Errors
/// Fails if the address cannot be bound, or if the passed socket is not a listening TCP socket.
pub async fn listener(address: &ListenAddress) -> io::Result<TcpListener> {
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
        return TcpListener::from_std(listener);
    }
    bind(address).await
}

/// Returns a new socket at `address`.
///
/// # Errors
/// Fails if the address cannot be bound.
pub async fn bind(address: &ListenAddress) -> io::Result<TcpListener> {
    let mut failed = None;
    for address in address.candidates().await? {
        match listener_at(address) {
            Ok(listener) => return Ok(listener),
            Err(e) => failed = failed.or(Some(e)),
        }
    }
    Err(failed.unwrap_or_else(|| io::Error::other("there is no address")))
}

fn listener_at(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // As after a restart, when connections of the previous process may linger.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
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
