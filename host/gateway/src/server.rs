//! `saegis run`: the gateway at work, from start to end.

pub mod connection;

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use saegis_maf::Maf;
use saegis_onem2m::association::Saef;
use saegis_policy::{Fault, Faults, Generation, Reload, ReloadCause};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::Admin;
use crate::admin::metrics_endpoint;
use crate::admin::status;
use crate::backend::Upstream;
use crate::config::Config;
use crate::listener::peer_limits::{self, Peers};
use crate::listener::socket_activation;
use crate::notification::relay;
use crate::notification::relay::RelayAddress;
use crate::peer_cse;
use crate::state::Gateway;
use crate::telemetry::audit;
use crate::telemetry::decision_log::{LostDecisions, Recording};
use crate::telemetry::logging::Written;
use crate::telemetry::warnings::{self, Warning};

/// How long to wait after an accept that failed for want of something, such as descriptors.
const BREATHER: Duration = Duration::from_millis(100);
/// How often the embedded registrar looks for expired resources.
const SWEEP_EVERY: Duration = Duration::from_secs(10);

/// Runs a gateway until it is told to stop.
///
/// # Errors
/// When it can't start.
pub async fn run(
    file: &Path,
    config: Config,
    written: Written,
    recording: Option<&Recording>,
) -> Result<(), Faults> {
    let own = |what: String| Faults(vec![Fault::of(file, what)]);
    raise_descriptor_limit(config.limits.connections, config.limits.handshakes);
    let (address, monitor) = (config.listen.address.clone(), config.metrics.address.clone());
    // Taken before the store is: where the place is taken, nothing else need be tried.
    let listener = socket_activation::listener(&address)
        .await
        .map_err(|e| own(format!("listen.address: {address} can't be listened on: {e}")))?;
    let local = listener.local_addr().map_err(|e| own(format!("listen.address: {e}")))?;
    let gateway = Arc::new(Gateway::open(file, config, written, recording).await?);
    let signals = Signals::new().map_err(|e| own(format!("signals can't be caught: {e}")))?;

    let (reloaded, reloads) = tokio::sync::mpsc::unbounded_channel();
    let admin = Admin::listen(gateway.clone(), reloaded.clone())
        .map_err(|e| own(format!("admin.socket: {e}")))?;
    let monitor = match monitor {
        None => None,
        Some(address) => {
            Some(metrics_endpoint::listen(&address, gateway.clone()).await.map_err(|e| {
                own(format!("metrics.address: {address} can't be listened on: {e}"))
            })?)
        }
    };
    let behind = gateway.config.upstream.as_ref();
    let notifications = behind.and_then(|cse| {
        Some((cse.notifications.as_ref()?, cse.notifications_uid, &cse.notifications_key))
    });
    let _listening = match notifications {
        None => None,
        Some((address, user, key)) => {
            if user.is_none() {
                tracing::warn!(
                    event = "notification.listener-unrestricted",
                    "a process of any user of this machine may send notifications to {address}, if it \
                     knows an address of an AE there; set upstream.notifications-uid to the user ID \
                     of the CSE behind"
                );
            }
            let listening = relay::listen(address, user, gateway.clone()).await.map_err(|e| {
                own(format!("upstream.notifications: {address} can't be listened on: {e}"))
            })?;
            let door = RelayAddress::new(listening.address, key)
                .map_err(|e| own(format!("upstream.notifications-key: {e}")))?;
            // Set once, for it listens once.
            let _ = gateway.door.set(door);
            Some(listening)
        }
    };
    let lines_of_decisions = recording.map(|recording| recording.lost.clone());
    let on_hangup = tokio::spawn(on_hangup(gateway.clone(), reloaded.clone(), lines_of_decisions));
    let _watcher = saegis_policy::watch(gateway.policy.clone(), move |reload| {
        // The receiver lives as long as the gateway.
        let _ = reloaded.send(reload);
    });
    let follow = tokio::spawn(follow_reloads(gateway.clone(), reloads));
    let sweep = tokio::spawn(sweep(gateway.clone()));
    let clock = tokio::spawn(watch_clock());
    let sums = tokio::spawn(complete_trails(gateway.clone()));
    let expiry = tokio::spawn(watch_expiry(gateway.clone()));
    let tidy = tokio::spawn(tidy(gateway.clone()));
    let mut registrations = JoinSet::new();
    for remote in gateway.cses.all().iter().filter(|remote| remote.peer.register) {
        let (remote, own) = (remote.clone(), gateway.clone());
        registrations.spawn(async move {
            peer_cse::keep(&remote, &own.config.cse, |is| {
                own.metrics.registered(&remote.peer.cse_id, is);
            })
            .await;
        });
    }
    let mut of_keys = JoinSet::new();
    if let Some(keys) = gateway.maf_keys.clone() {
        let changed = Arc::new(Notify::new());
        of_keys.spawn(keys.tend(changed.clone()));
        of_keys.spawn(follow_keys(gateway.clone(), changed));
    }
    let keeping = gateway.clone();
    let rules = tokio::spawn(async move { keeping.rules.keep_up().await });

    status::warn_of_credentials(file, &gateway.config);
    for line in status::serving(&gateway, local, monitor.as_ref().map(|m| m.address)) {
        // Whoever started us may have closed the pipe; that is no reason not to serve.
        let _ = writeln!(std::io::stdout(), "{line}");
    }
    tell_warnings(&gateway, warnings::of).await;
    audit::ready(local, &gateway.policy.current());
    socket_activation::tell_ready();

    serve(&gateway, listener, admin, signals).await;
    on_hangup.abort();
    follow.abort();
    sweep.abort();
    clock.abort();
    sums.abort();
    expiry.abort();
    tidy.abort();
    rules.abort();
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
    let peers = Peers::new(peer_limits::Bounds {
        all: gateway.config.limits.handshakes,
        under_way: gateway.config.limits.handshakes_per_peer,
        failures: gateway.config.limits.failed_handshakes_per_minute,
    });
    loop {
        tokio::select! {
            (socket, peer) = accept(&listener) => {
                let under_way = match peers.enter(peer.ip()) {
                    Ok(under_way) => under_way,
                    Err(full) => {
                        gateway.metrics.refused(full.cause());
                        audit::handshake_refused(peer, full.cause(), full.why());
                        continue;
                    }
                };
                let (gateway, stop) = (gateway.clone(), stop.clone());
                let places = places.clone();
                connections.spawn(async move {
                    connection::serve(gateway, socket, peer, under_way, places, stop).await;
                });
            }
            () = signals.next() => break,
        }
    }
    gateway.stop();
    socket_activation::tell_stopping();
    // Both places are free for a successor from now on.
    drop((listener, admin));
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

async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            // Bounds by network and rules with addresses are about IPv4 where the socket takes both.
            Ok((socket, peer)) => {
                return (socket, SocketAddr::new(peer.ip().to_canonical(), peer.port()));
            }
            Err(e) => {
                tracing::warn!(event = "accept.failed", "a connection can't be taken: {e}");
                tokio::time::sleep(BREATHER).await;
            }
        }
    }
}

/// At SIGHUP lets go of files that were moved away, and reloads, as services do; whoever changed a
/// file need not.
async fn on_hangup(
    gateway: Arc<Gateway>,
    reloaded: tokio::sync::mpsc::UnboundedSender<Reload>,
    lines_of_decisions: Option<LostDecisions>,
) {
    let Ok(mut hangup) = signal(SignalKind::hangup()) else { return };
    while hangup.recv().await.is_some() {
        gateway.written.reopen();
        if let Some(lines) = &lines_of_decisions {
            lines.reopen();
        }
        // The receiver lives as long as the gateway.
        let _ = reloaded.send(gateway.policy.reload(ReloadCause::Operator).await);
    }
}

/// Each connection takes a descriptor, and one to another CSE behind; the store, the policy files
/// and the log must find some too.
fn raise_descriptor_limit(connections: usize, handshakes: usize) {
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
                 descriptors and {most} can be had; lower limits.connections, or raise the limit \
                 (LimitNOFILE= in systemd)"
            );
        }
    }
}

/// Tells of reloads, and has new generations vouch for live associations.
async fn follow_reloads(
    gateway: Arc<Gateway>,
    mut reloads: tokio::sync::mpsc::UnboundedReceiver<Reload>,
) {
    let mut configuration_changed = false;
    while let Some(reload) = reloads.recv().await {
        let changed = gateway.policy.configuration_changed().is_some();
        if changed != std::mem::replace(&mut configuration_changed, changed) {
            status::tell_of_configuration(&gateway.config, changed);
        }
        match reload {
            Reload::Unchanged { recovered } => {
                gateway.metrics.reloaded("unchanged");
                if recovered {
                    audit::recovered(&gateway.policy.current());
                }
            }
            Reload::InForce(generation) => {
                gateway.metrics.in_force(&generation);
                gateway.metrics.reloaded("in-force");
                audit::in_force(&generation);
                for fault in generation.missed() {
                    audit::file_missed(generation.number, fault);
                }
                tell_warnings(&gateway, warnings::of).await;
                gateway.associations.vouch_all(generation, &gateway.policy).await;
            }
            Reload::Refused(faults) => {
                let number = gateway.policy.current().number;
                gateway.metrics.reloaded("refused");
                for fault in &faults.0 {
                    audit::generation_refused(number, fault);
                }
            }
        }
    }
}

/// Ends the associations with keys that their MAF has no more. A handshake that was under way with
/// such a key is an association soon, if ever, and so they are asked about a second time.
async fn follow_keys(gateway: Arc<Gateway>, changed: Arc<Notify>) {
    let under_way = gateway.config.limits.handshake() + Duration::from_secs(1);
    let mut again = None;
    loop {
        let second_time = async {
            match again {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = changed.notified() => again = Some(tokio::time::Instant::now() + under_way),
            () = second_time => again = None,
        }
        let generation = gateway.policy.current();
        for live in gateway.associations.all() {
            if live.association.saef == Saef::Maf {
                live.ask_again(&generation, "its key is registered at the MAF no more").await;
            }
        }
    }
}

/// How often it is looked at what came from registries, and how often a warning is repeated.
const LOOK_EVERY: Duration = Duration::from_secs(24 * 3600);
/// How often it is looked at what ends by itself: some revocation lists are good for a day.
const LOOK_AT_EXPIRY_EVERY: Duration = Duration::from_secs(3600);

/// Logs what the operator should know of the generation in force, and shows in the metrics when what
/// is in it ends.
async fn tell_warnings(
    gateway: &Gateway,
    of: impl FnOnce(&Generation) -> Vec<Warning> + Send + 'static,
) {
    let generation = gateway.policy.current();
    // All rows of large tables are gone through.
    let look = move || (generation.expiries(SystemTime::now()), of(&generation));
    // It can't panic, and if it did, nothing would be told.
    let Ok((expiries, warnings)) = tokio::task::spawn_blocking(look).await else {
        return;
    };
    gateway.metrics.expiries(&expiries);
    warnings.iter().for_each(Warning::log);
}

/// Warns, day by day, of what is about to end or has ended, and as soon as something comes to that.
async fn watch_expiry(gateway: Arc<Gateway>) {
    let (mut told, mut told_at) = (0, Instant::now());
    loop {
        tokio::time::sleep(LOOK_AT_EXPIRY_EVERY).await;
        let due = warnings::of_expiry(&gateway.policy.current()).len();
        if due > told || told_at.elapsed() >= LOOK_EVERY {
            tell_warnings(&gateway, warnings::of_expiry).await;
            told_at = Instant::now();
        }
        told = due;
    }
}

/// Throws away, day by day, what was fetched from registries and is of no use any more.
async fn tidy(gateway: Arc<Gateway>) {
    loop {
        gateway.policy.tidy().await;
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// How often the time of day is compared with the time that has passed, and how far they may part.
const COMPARE_EVERY: Duration = Duration::from_secs(1);
const MAY_PART: Duration = Duration::from_secs(5);

/// Tells when the time of day has jumped: expiry is by it, and so is the log's own time.
async fn watch_clock() {
    let (mut clock, mut passed) = (SystemTime::now(), Instant::now());
    loop {
        tokio::time::sleep(COMPARE_EVERY).await;
        let (now, elapsed) = (SystemTime::now(), passed.elapsed());
        let expected = clock + elapsed;
        let (jump, way) = match now.duration_since(expected) {
            Ok(ahead) => (ahead, "ahead"),
            Err(back) => (back.duration(), "back"),
        };
        if jump > MAY_PART {
            tracing::warn!(
                event = "clock.jumped",
                way,
                seconds = jump.as_secs(),
                "the clock was set {way} by {} s; what expires does so by the new time",
                jump.as_secs()
            );
        }
        (clock, passed) = (now, Instant::now());
    }
}

/// How often the trails get what they lack.
const COMPLETE_EVERY: Duration = Duration::from_secs(1);

/// Writes into the trails the sums of what was not written one by one, and how much was lost.
async fn complete_trails(gateway: Arc<Gateway>) {
    let mut lost = 0;
    loop {
        tokio::time::sleep(COMPLETE_EVERY).await;
        audit::write_sums(false);
        let now = gateway.written.lost_of_trails();
        if now > lost {
            audit::lines_lost(now - lost);
            lost = now;
        }
    }
}

/// Takes what has expired out of a MAF's store.
async fn sweep_maf(maf: &Arc<Maf>) {
    loop {
        tokio::time::sleep(SWEEP_EVERY).await;
        let maf = maf.clone();
        let batches = move || {
            while maf.sweep(SystemTime::now())?.more {}
            Ok::<_, saegis_maf::StoreError>(())
        };
        if let Ok(Err(e)) = tokio::task::spawn_blocking(batches).await {
            tracing::error!(event = "maf.store-failed", "expired keys stay: {e}");
        }
    }
}

/// Removes what has expired, a batch at a time.
async fn sweep(gateway: Arc<Gateway>) {
    let registrar = match &gateway.upstream {
        Upstream::Embedded { registrar, .. } => registrar,
        Upstream::Maf(maf) => return sweep_maf(maf).await,
        Upstream::Remote(_) => return,
    };
    loop {
        tokio::time::sleep(SWEEP_EVERY).await;
        let registrar = registrar.clone();
        let batches = move || {
            loop {
                let begun = Instant::now();
                if registrar.sweep(SystemTime::now())? < saegis_cse::SWEEP_BATCH {
                    return Ok::<_, saegis_cse::StoreError>(());
                }
                // At most half of the writer's time: nobody else is to pay for what expires.
                std::thread::sleep(begun.elapsed());
            }
        };
        match tokio::task::spawn_blocking(batches).await {
            Ok(Ok(())) => {}
            Ok(Err(e)) => {
                tracing::error!(event = "cse.store-failed", "expired resources stay: {e}")
            }
            Err(e) => tracing::error!(event = "cse.store-failed", "expired resources stay: {e}"),
        }
    }
}
