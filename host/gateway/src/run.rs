//! `saegis run`: the gateway at work, from start to end.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use saegis_policy::{Fault, Faults, Reload};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::Admin;
use crate::config::Config;
use crate::connection;
use crate::gateway::Gateway;
use crate::peers::Peers;
use crate::summary;
use crate::upstream::Upstream;

/// How long to wait after an accept that failed for want of something, such as descriptors.
const BREATHER: Duration = Duration::from_millis(100);
/// How often the embedded registrar looks for expired resources.
const SWEEP_EVERY: Duration = Duration::from_secs(10);

/// Runs a gateway until it is told to stop.
///
/// # Errors
/// When it can't start.
pub async fn run(file: &Path, config: Config) -> Result<(), Faults> {
    let own = |what: String| Faults(vec![Fault::of(file, what)]);
    let address = config.listen.address;
    raise_descriptor_limit(config.limits.connections);
    let gateway = Arc::new(Gateway::open(file, config).await?);
    let listener = TcpListener::bind(address)
        .await
        .map_err(|e| own(format!("listen.address: {address} can't be listened on: {e}")))?;
    let local = listener.local_addr().unwrap_or(address);
    let signals = Signals::new().map_err(|e| own(format!("signals can't be caught: {e}")))?;

    let reporter = gateway.clone();
    let (reloaded, reloads) = tokio::sync::mpsc::unbounded_channel();
    let admin = Admin::listen(gateway.clone(), reloaded.clone())
        .map_err(|e| own(format!("admin.socket: {e}")))?;
    let on_hangup = tokio::spawn(reload_on_hangup(gateway.clone(), reloaded.clone()));
    let _watcher = saegis_policy::watch(gateway.policy.clone(), move |reload| {
        // The receiver lives as long as the gateway.
        let _ = reloaded.send(reload);
    })
    .map_err(|e| own(e.to_string()))?;
    let follow = tokio::spawn(follow_reloads(reporter, reloads));
    let sweep = tokio::spawn(sweep(gateway.clone()));

    for line in summary::serving(&gateway, local) {
        // Whoever started us may have closed the pipe; that is no reason not to serve.
        let _ = writeln!(std::io::stdout(), "{line}");
    }
    tracing::info!(event = "gateway.ready", address = %local,
        generation = gateway.policy.current().number, "ready");

    serve(&gateway, listener, admin, signals).await;
    on_hangup.abort();
    follow.abort();
    sweep.abort();
    Ok(())
}

/// The signals that stop a gateway.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
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

async fn serve(gateway: &Arc<Gateway>, listener: TcpListener, admin: Admin, mut signals: Signals) {
    let stop = CancellationToken::new();
    let connections = TaskTracker::new();
    let places = Arc::new(Semaphore::new(gateway.config.limits.connections));
    let peers = Peers::new(gateway.config.limits.handshakes_per_peer);
    loop {
        let next = async {
            // Past the bound, new connections wait in the kernel's queue.
            let place = places.clone().acquire_owned().await;
            (accept(&listener).await, place)
        };
        tokio::select! {
            ((socket, peer), place) = next => {
                let Some(under_way) = peers.enter(peer.ip()) else {
                    connection::log_refusal(peer, "too-many",
                        "the peer has as many handshakes under way as it may");
                    continue;
                };
                let (gateway, stop) = (gateway.clone(), stop.clone());
                connections.spawn(async move {
                    let _place = place;
                    connection::serve(gateway, socket, peer, under_way, stop).await;
                });
            }
            () = signals.next() => break,
        }
    }
    // Both places are free for a successor from now on.
    drop((listener, admin));
    let drain = Duration::from_secs(gateway.config.limits.drain_seconds);
    tracing::info!(
        event = "gateway.stopping",
        associations = connections.len(),
        "stopping; associations have {} s to finish their requests",
        drain.as_secs()
    );
    stop.cancel();
    connections.close();
    tokio::select! {
        () = connections.wait() => tracing::info!(event = "gateway.stopped", "stopped"),
        () = tokio::time::sleep(drain) => tracing::warn!(event = "gateway.stopped",
            associations = connections.len(), "stopped; some requests were cut off"),
        () = signals.next() => tracing::warn!(event = "gateway.stopped",
            associations = connections.len(), "stopped at once, at a second signal"),
    }
}

async fn accept(listener: &TcpListener) -> (TcpStream, std::net::SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(e) => {
                tracing::warn!(event = "accept.failed", "a connection can't be taken: {e}");
                tokio::time::sleep(BREATHER).await;
            }
        }
    }
}

/// Reloads at SIGHUP, as services do; whoever changed a file need not.
async fn reload_on_hangup(
    gateway: Arc<Gateway>,
    reloaded: tokio::sync::mpsc::UnboundedSender<Reload>,
) {
    let Ok(mut hangup) = signal(SignalKind::hangup()) else { return };
    while hangup.recv().await.is_some() {
        // The receiver lives as long as the gateway.
        let _ = reloaded.send(gateway.policy.reload().await);
    }
}

/// Each connection takes a descriptor, and one to another CSE behind; the store, the policy files
/// and the log must find some too.
fn raise_descriptor_limit(connections: usize) {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    let wanted = 2 * connections as u64 + 256;
    let most = limit.maximum.unwrap_or(u64::MAX);
    if limit.current.is_some_and(|now| now < wanted) {
        limit.current = Some(wanted.min(most));
        let raised = setrlimit(Resource::Nofile, limit);
        if most < wanted || raised.is_err() {
            tracing::warn!(
                event = "gateway.descriptors",
                "{connections} connections may need {wanted} file descriptors and {most} can be \
                 had; lower limits.connections, or raise the limit (LimitNOFILE= in systemd)"
            );
        }
    }
}

/// Tells of reloads, and has new generations vouch for live associations.
async fn follow_reloads(
    gateway: Arc<Gateway>,
    mut reloads: tokio::sync::mpsc::UnboundedReceiver<Reload>,
) {
    while let Some(reload) = reloads.recv().await {
        match reload {
            Reload::Unchanged => {}
            Reload::InForce(generation) => {
                tracing::info!(
                    event = "generation.in-force",
                    generation = generation.number,
                    "generation {} is in force: {}",
                    generation.number,
                    summary::contents(&generation)
                );
                summary::warn_of_short_keys(&generation);
                gateway.associations.vouch_all(generation, &gateway.policy).await;
            }
            Reload::Refused(faults) => {
                let number = gateway.policy.current().number;
                for fault in &faults.0 {
                    tracing::error!(
                        event = "generation.refused",
                        in_force = number,
                        "{fault}; generation {number} stays in force"
                    );
                }
            }
        }
    }
}

/// Removes what has expired, a batch at a time.
async fn sweep(gateway: Arc<Gateway>) {
    let Upstream::Embedded { registrar, .. } = &gateway.upstream else { return };
    loop {
        tokio::time::sleep(SWEEP_EVERY).await;
        let registrar = registrar.clone();
        let batches = move || {
            while registrar.sweep(std::time::SystemTime::now())? >= saegis_registrar::SWEEP_BATCH {}
            Ok::<_, saegis_registrar::StoreError>(())
        };
        match tokio::task::spawn_blocking(batches).await {
            Ok(Ok(())) => {}
            Ok(Err(e)) => {
                tracing::error!(event = "registrar.failed", "expired resources stay: {e}")
            }
            Err(e) => tracing::error!(event = "registrar.failed", "expired resources stay: {e}"),
        }
    }
}
