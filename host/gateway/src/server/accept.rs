//! The accept loops, from the first connection to the last.

use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet, yield_now};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tracing::Instrument as _;
use tracing::field::Empty;

use super::connection::{
    AcceptedConnection, Client, FirstFlightReceived, FirstFlightState, Protocol, refused,
};
use super::connection_threads::ConnectionThread;
use super::datagrams::{Common, DatagramListener, Datagrams};
use super::load_balancers::LoadBalancers;
use crate::admin::Admin;
use crate::listener::peer_limits::{HandshakeLimits, PeerLimits};
use crate::listener::socket_activation;
use crate::listener::yielding_writer::WriteTurns;
use crate::low_priority::LowPriority;
use crate::state::Gateway;
use crate::telemetry::audit;

/// Delay after a failed accept, such as without free file descriptors.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// Signals that stop a gateway.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Installs the signal handlers.
    ///
    /// # Errors
    /// Fails if they cannot be installed.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// State that the accept loops of all threads share.
struct Acceptor {
    gateway: Arc<Gateway>,
    common: Common,
    proxies: LoadBalancers,
    /// Peers that only connect must cost active peers as little as possible.
    first_flights: LowPriority,
}

/// State that the connections of a listener share.
#[derive(Clone)]
struct OfListener {
    thread: Handle,
    stop: CancellationToken,
    protocol: Protocol,
    turns: WriteTurns,
}

impl Acceptor {
    /// Accepts connections on a thread, and serves them there.
    async fn run(
        self: Arc<Self>,
        listener: TcpListener,
        (protocol, turns): (Protocol, WriteTurns),
    ) {
        let (thread, stop) = (Handle::current(), self.common.stop.child_token());
        let of_listener = OfListener { thread, stop, protocol, turns };
        loop {
            // Other connections have their turn between two of many that arrive at a time.
            yield_now().await;
            let (socket, peer) = accept(&listener).await;
            let client = Client { peer, proxy: None, start: Instant::now() };
            if self.gateway.config.proxy_protocol.is_from(peer.ip()) {
                self.forwarded(socket, client, &of_listener);
            } else {
                self.admit(socket, client, &of_listener);
            }
        }
    }

    /// Reads the header in which a load balancer names the client, and admits the client.
    fn forwarded(self: &Arc<Self>, socket: TcpStream, proxy: Client, of_listener: &OfListener) {
        let Some(header) = self.proxies.accepted(&self.gateway, socket, proxy) else { return };
        let (acceptor, here) = (self.clone(), of_listener.clone());
        let counted = self.common.connections.token();
        of_listener.thread.spawn(async move {
            let _counted = counted;
            if let Some((socket, client)) = header.read().await {
                acceptor.admit(socket, client, &here);
            }
        });
    }

    /// Starts the handshake of a client, unless its address has reached a limit.
    fn admit(self: &Arc<Self>, socket: TcpStream, client: Client, of_listener: &OfListener) {
        let peer = client.peer;
        let handshake = match self.common.peers.admit(peer.ip()) {
            Ok(handshake) => handshake,
            Err(limit) => return refused(&self.gateway, peer, limit.cause(), limit.why()),
        };
        let proxy = client.proxy.map(tracing::field::display);
        let span = tracing::info_span!("connection", %peer, proxy, association = Empty);
        // One token for both parts, so that a connection counts once.
        let (of_serving, counted) = (span.clone(), self.common.connections.token());
        let OfListener { thread, stop, protocol, turns } = of_listener.clone();
        let permits = self.common.permits.clone();
        let serve = move |received: FirstFlightReceived| {
            // Boxed, so that an established connection does not have the memory of the handshake.
            let establishing = Box::pin(received.establish(permits, turns));
            async move {
                let _counted = counted;
                if let Some(established) = establishing.await {
                    established.serve(protocol, stop).await;
                }
            }
            .instrument(of_serving)
        };
        let accepted = AcceptedConnection::new(self.gateway.clone(), socket, client, handshake);
        match accepted.read_at_once() {
            FirstFlightState::Received(received) => {
                thread.spawn(serve(received));
            }
            FirstFlightState::Pending(accepted) => {
                let (acceptor, here) = (self.clone(), thread.clone());
                let read = async move {
                    match accepted.read_soon().await {
                        FirstFlightState::Received(received) => {
                            here.spawn(serve(received));
                        }
                        FirstFlightState::Pending(accepted) => {
                            acceptor.read_later(accepted, here, serve);
                        }
                    }
                };
                thread.spawn(read.instrument(span));
            }
        }
    }

    /// Reads a first flight that takes long, apart from the connections.
    fn read_later<F>(
        &self,
        accepted: AcceptedConnection,
        thread: Handle,
        serve: impl FnOnce(FirstFlightReceived) -> F + Send + 'static,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let read = async move {
            if let Some(received) = accepted.read().await {
                thread.spawn(serve(received));
            }
        };
        self.first_flights.handle().spawn(read.in_current_span());
    }
}

/// Serves connections until a signal, and then until they have ended or the drain timeout.
pub async fn serve(
    gateway: &Arc<Gateway>,
    (threads, datagrams): (Vec<ConnectionThread>, Option<DatagramListener>),
    admin: Admin,
    mut signals: Signals,
) {
    let common = Common {
        peers: PeerLimits::new(HandshakeLimits {
            all: gateway.config.limits.handshakes,
            active: gateway.config.limits.handshakes_per_peer,
            failures: gateway.config.limits.failed_handshakes_per_minute,
        }),
        permits: Arc::new(Semaphore::new(gateway.config.limits.connections)),
        connections: TaskTracker::new(),
        stop: CancellationToken::new(),
    };
    let (stop, connections) = (common.stop.clone(), common.connections.clone());
    let mut datagrams = datagrams.map(|listener| {
        let datagrams = Datagrams::new(gateway.clone(), listener, common.clone());
        AbortOnDropHandle::new(tokio::spawn(datagrams.run()))
    });
    let first_flights = LowPriority::for_futures("first-flight");
    let proxies = LoadBalancers::new(gateway.config.limits.handshakes);
    let acceptor = Arc::new(Acceptor { gateway: gateway.clone(), common, proxies, first_flights });
    let (mut accepting, mut running) = (JoinSet::new(), Vec::new());
    for thread in threads {
        let turns = WriteTurns::new();
        for (listener, protocol) in thread.listeners {
            let accept = acceptor.clone().run(listener, (protocol, turns.clone()));
            accepting.spawn_on(accept, &thread.handle);
        }
        running.push(thread.running);
    }
    tokio::select! {
        () = signals.next() => {}
        // Such a task ends only by a panic, or with its thread. Either ends the gateway.
        Some(Err(ended)) = accepting.join_next() => resume(ended),
        Err(ended) = ending_of(datagrams.as_mut()) => resume(ended),
    }
    gateway.stop();
    socket_activation::tell_stopping();
    // A successor may bind the addresses of TCP and the admin socket from now on, and that of CoAP when
    // the associations of that socket have ended.
    accepting.shutdown().await;
    drop(admin);
    let drain = Duration::from_secs(gateway.config.limits.drain_seconds);
    audit::stopping(connections.len(), drain.as_secs());
    stop.cancel();
    connections.close();
    tokio::select! {
        () = connections.wait() => audit::stopped(0, "stopped"),
        () = tokio::time::sleep(drain) => {
            audit::stopped(connections.len(), "stopped; some requests were cut off");
        }
        () = signals.next() => {
            audit::stopped(connections.len(), "stopped at once, at a second signal");
        }
    }
}

/// Waits for the end of the task that reads datagrams, if there is one.
async fn ending_of(datagrams: Option<&mut AbortOnDropHandle<()>>) -> Result<(), JoinError> {
    match datagrams {
        Some(datagrams) => datagrams.await,
        None => pending().await,
    }
}

/// Continues the panic of a task that has ended.
fn resume(ended: JoinError) -> ! {
    std::panic::resume_unwind(ended.try_into_panic().unwrap_or_else(|e| Box::new(e.to_string())))
}

async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            // Limits by network and rules with addresses use IPv4, even if the socket accepts both
            // protocols.
            Ok((socket, peer)) => {
                return (socket, SocketAddr::new(peer.ip().to_canonical(), peer.port()));
            }
            Err(e) => {
                tracing::warn!(event = "accept.failed", "cannot accept a connection: {e}");
                tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
            }
        }
    }
}

/// Each connection needs a descriptor, and a second one to the upstream CSE. The store, the policy
/// files and the log need some too.
pub fn raise_descriptor_limit(connections: usize, handshakes: usize) {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    let wanted = 2 * connections as u64 + handshakes as u64 + 256;
    let most = limit.maximum.unwrap_or(u64::MAX);
    if limit.current.is_some_and(|now| now < wanted) {
        limit.current = Some(wanted.min(most));
        let raised = setrlimit(Resource::Nofile, limit);
        if most < wanted || raised.is_err() {
            tracing::warn!(
                event = "gateway.descriptors-low",
                "{connections} connections and {handshakes} handshakes may need {wanted} file \
                 descriptors, but only {most} are available; lower limits.connections, or raise the limit \
                 (LimitNOFILE= in systemd)"
            );
        }
    }
}
