//! The listeners of the web page. The gateway also starts without them, because another user of the
//! machine can have their port.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpListener;

use crate::config::ListenAddress;

/// Interval between two attempts to open a listener.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);
/// Maximum number of free ports that are tried for the port 0.
const MAX_PORTS: usize = 16;

/// Binds the port on both addresses of the loopback interface. Browsers resolve the names of links to
/// both, so a listener of another user at one of them would receive links.
///
/// # Errors
/// Fails if the port is in use at one of them.
pub async fn bind(address: &ListenAddress) -> io::Result<Vec<TcpListener>> {
    let wanted = address.candidates().await?.first().map_or(0, SocketAddr::port);
    let mut failed = io::ErrorKind::AddrInUse.into();
    for _ in 0..MAX_PORTS {
        let first = TcpListener::bind((Ipv4Addr::LOCALHOST, wanted)).await?;
        let port = first.local_addr()?.port();
        match TcpListener::bind((Ipv6Addr::LOCALHOST, port)).await {
            Ok(second) => return Ok(vec![first, second]),
            // Without IPv6, nobody can listen there.
            Err(e) if e.kind() != io::ErrorKind::AddrInUse => return Ok(vec![first]),
            Err(e) => failed = e,
        }
        if wanted != 0 {
            break;
        }
    }
    Err(failed)
}

/// Opens a listener, if the first attempt has failed, and keeps it open.
pub async fn keep_open<L, O>(
    name: &str,
    first: Result<L, String>,
    open: impl Fn() -> O,
) -> Infallible
where
    O: Future<Output = Result<L, String>>,
{
    let mut attempt = first;
    let mut last = None;
    loop {
        match attempt {
            Ok(_listener) => {
                if last.is_some() {
                    tracing::info!(event = "admin.page-available", "the {name} is open");
                }
                return std::future::pending().await;
            }
            Err(why) if last.as_ref() != Some(&why) => {
                tracing::warn!(
                    event = "admin.page-unavailable",
                    why,
                    "the {name} is not open, the next attempt follows in {} s: {why}",
                    RETRY_INTERVAL.as_secs()
                );
                last = Some(why);
            }
            Err(_) => {}
        }
        tokio::time::sleep(RETRY_INTERVAL).await;
        attempt = open().await;
    }
}
