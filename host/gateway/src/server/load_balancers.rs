//! Connections of load balancers, which name their clients with the PROXY protocol.

use std::sync::Arc;

use saegis_handshake::{ConnectionOrigin, read_proxy_header};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout_at;

use super::connection::{Client, refused};
use crate::state::Gateway;

/// Connections whose header has not arrived.
pub struct LoadBalancers {
    /// A load balancer sends its header at once. The clients that it will name have other limits.
    headers: Arc<Semaphore>,
}

/// A connection that must start with a header.
pub struct PendingHeader {
    gateway: Arc<Gateway>,
    socket: TcpStream,
    proxy: Client,
    _permit: OwnedSemaphorePermit,
}

impl LoadBalancers {
    /// Permits that many connections without their header.
    pub fn new(most: usize) -> Self {
        Self { headers: Arc::new(Semaphore::new(most)) }
    }

    /// Takes an accepted connection, unless too many have not sent their header.
    pub fn accepted(
        &self,
        gateway: &Arc<Gateway>,
        socket: TcpStream,
        proxy: Client,
    ) -> Option<PendingHeader> {
        let Ok(permit) = self.headers.clone().try_acquire_owned() else {
            let why = "too many connections of load balancers wait for a PROXY protocol header";
            refused(gateway, proxy.peer, "too-many-in-all", why);
            return None;
        };
        Some(PendingHeader { gateway: gateway.clone(), socket, proxy, _permit: permit })
    }
}

impl PendingHeader {
    /// Reads the header. Returns the client, which is the load balancer itself for a connection of its
    /// own. Returns `None` if the header is invalid or late, or a health check is over.
    pub async fn read(self) -> Option<(TcpStream, Client)> {
        let Self { gateway, mut socket, proxy, _permit } = self;
        let deadline = proxy.start + gateway.config.limits.first_flight();
        // An invalid header does not count as a failed handshake of the load balancer, because
        // clients could then bar each other.
        let refused = |cause, why: &str| refused(&gateway, proxy.peer, cause, why);
        match timeout_at(deadline, read_proxy_header(&mut socket)).await {
            Ok(Ok(ConnectionOrigin::Client(peer))) => {
                let client = Client { peer, proxy: Some(proxy.peer.ip()), start: proxy.start };
                return Some((socket, client));
            }
            Ok(Ok(ConnectionOrigin::LoadBalancer)) => {
                // A health check may close the connection without a handshake.
                match timeout_at(deadline, socket.peek(&mut [0])).await {
                    Ok(Ok(1..)) => return Some((socket, proxy)),
                    Ok(_) => {}
                    Err(_) => refused("timeout", "the load balancer's first flight took too long"),
                }
            }
            Ok(Err(error)) => refused(error.cause(), &error.to_string()),
            Err(_) => refused("timeout", "the PROXY protocol header took too long"),
        }
        None
    }
}
