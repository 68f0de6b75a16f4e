//! The UDP socket of all associations over DTLS.
//!
//! One task reads the socket. It answers a ClientHello without storing anything, until the client has
//! proved its address. All other datagrams go to the task of their address, through a bounded queue.

mod association;
mod routes;
mod state;

pub use state::{Common, Datagrams};

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use saegis_handshake::dtls::{self, Hello, is_client_hello};
use saegis_onem2m::coap::{Limits, Transfers};
use tokio::net::UdpSocket;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;
use tracing::field::Empty;

use self::association::Association;
use self::state::server;
use crate::binding::coap::Shared;
use crate::config::{Coap, ListenAddress};
use crate::state::Gateway;
use crate::telemetry::audit;

/// Maximum size of a received datagram, in bytes: a record of the maximum size. The rest of a longer
/// one is cut off, so that it is not authentic.
const MAX_DATAGRAM: usize = 17 << 10;
/// Size of the socket's buffer for received datagrams, in bytes. The kernel has its own limit
/// (`net.core.rmem_max`).
const SOCKET_BUFFER: usize = 4 << 20;
/// Delay after a failed read of the socket.
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// Maximum number of transfers in blocks of one association.
const MAX_TRANSFERS_PER_ASSOCIATION: usize = 4;

/// A bound socket, and the engine of its handshakes.
pub struct DatagramListener {
    socket: Arc<UdpSocket>,
    server: dtls::Server,
}

impl DatagramListener {
    /// Binds the socket, if it is configured.
    ///
    /// # Errors
    /// Fails if the address cannot be bound, or OpenSSL does not support the suites.
    pub async fn bind(config: &Coap) -> Result<Option<Self>, String> {
        let Some(address) = &config.listen else { return Ok(None) };
        let server = server(config).map_err(|e| format!("coap.suites: {e}"))?;
        let socket = bind(address).await;
        let socket = socket.map_err(|e| format!("cannot bind coap.listen {address}: {e}"))?;
        // A smaller buffer works too.
        let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, SOCKET_BUFFER);
        Ok(Some(Self { socket: Arc::new(socket), server }))
    }

    /// Returns the address of the socket.
    ///
    /// # Errors
    /// Fails if the system does not return it.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

async fn bind(address: &ListenAddress) -> io::Result<UdpSocket> {
    let mut failed = None;
    for address in address.candidates().await? {
        match UdpSocket::bind(address).await {
            Ok(socket) => return Ok(socket),
            Err(e) => failed = failed.or(Some(e)),
        }
    }
    Err(failed.unwrap_or_else(|| io::Error::other("there is no address")))
}

impl Datagrams {
    /// Creates an empty list of associations.
    pub fn new(gateway: Arc<Gateway>, listener: DatagramListener, common: Common) -> Arc<Self> {
        let DatagramListener { socket, server } = listener;
        let (coap, limits) = (&gateway.config.coap, &gateway.config.limits);
        let transfers = Transfers::new(Limits {
            max_body: limits.content_bytes,
            max_per_association: MAX_TRANSFERS_PER_ASSOCIATION,
            max_bytes: coap.transfer_bytes,
            lifetime: coap.transfer(),
            max_message: coap.max_message(),
        });
        let shared = Shared { transfers: Mutex::new(transfers) };
        let (server, certificates) = (Arc::new(server), Mutex::default());
        let (routes, associations) = (Arc::default(), TaskTracker::new());
        Arc::new(Self {
            gateway,
            socket,
            server,
            certificates,
            routes,
            associations,
            shared,
            common,
        })
    }

    /// Reads the socket until the gateway stops and its last association has ended. The socket is then
    /// closed, so that a successor can bind its address.
    pub async fn run(self: Arc<Self>) {
        let mut buffer = vec![0; MAX_DATAGRAM];
        let mut drained = pin!(self.drained());
        loop {
            let received = tokio::select! {
                received = self.socket.recv_from(&mut buffer) => received,
                () = &mut drained => return,
            };
            match received {
                Ok((length, peer)) => {
                    self.receive(peer, buffer.get(..length).unwrap_or_default());
                }
                Err(e) => {
                    tracing::warn!(event = "datagram.failed", "cannot receive a datagram: {e}");
                    tokio::time::sleep(RETRY_DELAY).await;
                }
            }
        }
    }

    async fn drained(&self) {
        self.common.stop.cancelled().await;
        self.associations.close();
        self.associations.wait().await;
    }

    fn receive(self: &Arc<Self>, peer: SocketAddr, datagram: &[u8]) {
        if !is_client_hello(datagram) {
            if let Err(dropped) = self.routes.dispatch(peer, datagram) {
                self.gateway.metrics.datagram_dropped(dropped.cause());
            }
            return;
        }
        if self.common.stop.is_cancelled() {
            return;
        }
        match self.server.receive(peer, datagram, Instant::now()) {
            // One that the socket does not take at once is lost, and the client repeats its
            // ClientHello.
            Hello::Verify(answer) => drop(self.socket.try_send_to(&answer, peer)),
            Hello::Verified(hello) => self.begin(peer, hello),
            Hello::Invalid => self.gateway.metrics.datagram_dropped("invalid-hello"),
        }
    }

    /// Starts the handshake of a client that has proved its address.
    fn begin(self: &Arc<Self>, peer: SocketAddr, hello: dtls::ClientHello) {
        if self.routes.has(peer, &hello.random()) {
            return;
        }
        let canonical = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let active = match self.common.peers.admit(peer.ip()) {
            Ok(active) => active,
            Err(limit) => {
                self.gateway.metrics.refused(limit.cause());
                audit::handshake_refused(canonical, limit.cause(), limit.why());
                return;
            }
        };
        let (route, incoming) = match self.routes.begin(peer, hello.random()) {
            Ok(begun) => begun,
            Err(dropped) => return self.gateway.metrics.datagram_dropped(dropped.cause()),
        };
        // Its ClientHello is whole.
        active.has_begun();
        if hello.offers_connection_id() {
            self.gateway.metrics.connection_id_offered();
        }
        let span = tracing::info_span!("connection", peer = %canonical, association = Empty);
        let association = Association { all: self.clone(), canonical, route };
        let serving = association.serve(hello, incoming, active).instrument(span);
        self.common.connections.spawn(self.associations.track_future(serving));
    }
}
