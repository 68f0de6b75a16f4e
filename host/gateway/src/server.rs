//! A gateway or a MAF, from its start to its end.

pub mod connection;

mod accept;
mod connection_threads;
mod datagrams;
mod load_balancers;
mod served_session;
mod tasks;

use std::io::Write as _;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use saegis_policy::{Fault, Faults, Reload};
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinSet;

use self::accept::Signals;
use self::connection::Protocol;
use self::connection_threads::ConnectionThread;
use self::datagrams::DatagramListener;
use crate::admin::commands::Commands;
use crate::admin::metrics_endpoint;
use crate::admin::status::Addresses;
use crate::admin::web;
use crate::admin::web_access::WebAccess;
use crate::admin::{Admin, status};
use crate::config::Config;
use crate::listener::loopback_http::LoopbackServer;
use crate::listener::socket_activation;
use crate::notification::relay::Relay;
use crate::notification::relay_address::RelayAddress;
use crate::peer_cse::registration;
use crate::session::end_guard::EndGuard;
use crate::state::Gateway;
use crate::telemetry::audit;
use crate::telemetry::decision_log::Recording;
use crate::telemetry::logging::LogOutputs;

/// Runs a gateway until a signal stops it.
///
/// # Errors
/// Fails if it cannot start.
pub async fn run(
    file: &Path,
    config: Config,
    outputs: LogOutputs,
    recording: Option<&Recording>,
) -> Result<(), Faults> {
    let own = |what: String| Faults(vec![Fault::of(file, what)]);
    accept::raise_descriptor_limit(config.limits.connections, config.limits.handshakes);
    // Before the store is opened: if an address is in use, the start fails early.
    let (threads, local, mqtt_address) = listen(file, &config).await?;
    let datagrams = DatagramListener::bind(&config.coap).await.map_err(own)?;
    let coap_address = datagrams.as_ref().and_then(|listener| listener.local_addr().ok());
    let gateway = Arc::new(Gateway::open(file, config, outputs, recording).await?);
    EndGuard::install(&gateway);
    let signals = Signals::new().map_err(|e| own(format!("cannot handle signals: {e}")))?;

    let (reloaded, reloads) = tokio::sync::mpsc::unbounded_channel();
    let (commands, access) = commands(&gateway, &reloaded);
    let admin = Admin::listen(commands.clone()).map_err(|e| own(format!("admin.socket: {e}")))?;
    let page = match access {
        Some(access) => Some(web::open(commands, access).await),
        None => None,
    };
    let monitor = listen_for_metrics(&gateway).await.map_err(own)?;
    let _relay = listen_for_notifications(file, &gateway).await?;
    let lines_of_decisions = recording.map(|recording| recording.lost.clone());
    // Dropped with this function, which ends the tasks.
    let mut tasks = JoinSet::new();
    tasks.spawn(tasks::on_hangup(gateway.clone(), reloaded.clone(), lines_of_decisions));
    let _watcher = saegis_policy::watch(gateway.policy.clone(), move |reload| {
        // The receiver lives as long as the gateway.
        let _ = reloaded.send(reload);
    });
    tasks.spawn(tasks::follow_reloads(gateway.clone(), reloads));
    spawn_tasks(&mut tasks, &gateway);

    status::warn_of_credentials(file, &gateway.config);
    let monitored = monitor.as_ref().map(|monitor| monitor.address);
    let addresses = Addresses {
        tls: local,
        mqtt: mqtt_address,
        coap: coap_address,
        metrics: monitored,
        page: page.as_ref().and_then(|page| page.local),
        remote_page: page.as_ref().and_then(|page| page.remote),
    };
    for line in status::serving(&gateway, &addresses) {
        // The parent process may have closed the pipe, which must not stop the gateway.
        let _ = writeln!(std::io::stdout(), "{line}");
    }
    tasks::log_new_warnings(&gateway).await;
    audit::ready(local, &gateway.policy.current());
    socket_activation::tell_ready();

    accept::serve(&gateway, (threads, datagrams), admin, signals).await;
    Ok(())
}

/// Returns the operations for administrators, and the access to the web page if there is one.
fn commands(
    gateway: &Arc<Gateway>,
    reloaded: &UnboundedSender<Reload>,
) -> (Arc<Commands>, Option<Arc<WebAccess>>) {
    let web = &gateway.config.admin.web;
    let access = web.is_on().then(|| {
        let (link, session) = (web.link_seconds, web.session_seconds);
        Arc::new(WebAccess::new(Duration::from_secs(link), Duration::from_secs(session)))
    });
    let commands = Commands::new(gateway.clone(), reloaded.clone(), access.clone());
    (Arc::new(commands), access)
}

/// Listens for requests for metrics, if configured.
async fn listen_for_metrics(gateway: &Arc<Gateway>) -> Result<Option<LoopbackServer>, String> {
    let Some(address) = &gateway.config.metrics.address else { return Ok(None) };
    let server = metrics_endpoint::listen(address, gateway.clone()).await;
    server.map(Some).map_err(|e| format!("cannot bind metrics.address {address}: {e}"))
}

/// Starts the threads for connections with a listener each, and with a second one for MQTT clients if
/// configured. Returns the addresses of the listeners too.
async fn listen(
    file: &Path,
    config: &Config,
) -> Result<(Vec<ConnectionThread>, SocketAddr, Option<SocketAddr>), Faults> {
    let own = |what: String| Faults(vec![Fault::of(file, what)]);
    let count = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let mut threads = connection_threads::start(count)
        .map_err(|e| own(format!("cannot start the threads for connections: {e}")))?;
    let address = &config.listen.address;
    let local = socket_activation::listeners(address, count)
        .await
        .and_then(|all| connection_threads::listen(&mut threads, all, Protocol::Http))
        .map_err(|e| own(format!("cannot bind listen.address {address}: {e}")))?;
    let Some(address) = &config.mqtt.listen else { return Ok((threads, local, None)) };
    let mqtt = socket_activation::bind(address, count)
        .await
        .and_then(|all| connection_threads::listen(&mut threads, all, Protocol::Mqtt))
        .map_err(|e| own(format!("cannot bind mqtt.listen {address}: {e}")))?;
    Ok((threads, local, Some(mqtt)))
}

/// Listens for notifications of the upstream CSE, if configured.
async fn listen_for_notifications(
    file: &Path,
    gateway: &Arc<Gateway>,
) -> Result<Option<LoopbackServer>, Faults> {
    let own = |what: String| Faults(vec![Fault::of(file, what)]);
    let config = &gateway.config;
    let Some(upstream) = &config.upstream else { return Ok(None) };
    let Some(address) = &upstream.notification_listen else { return Ok(None) };
    if upstream.notification_uid.is_none() {
        tracing::warn!(
            event = "notification.listener-unrestricted",
            "a process of any user of this machine may send notifications to {address}, if it \
             knows a relayed address of an AE; set upstream.notification-uid to the user ID \
             of the upstream CSE"
        );
    }
    let relay = Relay {
        address: gateway.relay_address.clone(),
        aes: gateway.aes.clone(),
        cse: config.cse.identity(),
        content_bytes: config.limits.content_bytes,
        content_timeout: Duration::from_secs(config.limits.content_seconds),
        response_timeout: Duration::from_secs(config.notifications.timeout_seconds),
    };
    let listening = relay
        .listen(address, upstream.notification_uid)
        .await
        .map_err(|e| own(format!("cannot bind upstream.notification-listen {address}: {e}")))?;
    let relay_address = RelayAddress::new(listening.address, &upstream.notification_key_file)
        .map_err(|e| own(format!("upstream.notification-key-file: {e}")))?;
    // Set once, because the relay is started once.
    let _ = gateway.relay_address.set(relay_address);
    Ok(Some(listening))
}

/// Starts the tasks that run as long as the gateway.
fn spawn_tasks(tasks: &mut JoinSet<()>, gateway: &Arc<Gateway>) {
    let own = gateway.clone();
    tasks.spawn(async move { own.backend.sweep().await });
    tasks.spawn(tasks::watch_clock());
    tasks.spawn(tasks::complete_trails(gateway.clone()));
    tasks.spawn(tasks::tidy_waiting_notifications(gateway.clone()));
    tasks.spawn(tasks::watch_expiry(gateway.clone()));
    tasks.spawn(tasks::tidy(gateway.clone()));
    tasks.spawn(tasks::tidy_sessions(gateway.clone()));
    tasks.spawn(tasks::watch_upstream(gateway.clone()));
    for remote in gateway.cses.all().iter().filter(|remote| remote.peer.register) {
        let (remote, own) = (remote.clone(), gateway.clone());
        tasks.spawn(async move {
            registration::keep(&remote, &own.config.cse.identity(), |is| {
                own.metrics.registered(&remote.peer.cse_id, is);
            })
            .await;
        });
    }
    if let Some(keys) = gateway.maf_keys.clone() {
        let changed = Arc::new(Notify::new());
        tasks.spawn(keys.tend(changed.clone()));
        tasks.spawn(tasks::follow_keys(gateway.clone(), changed));
    }
    let own = gateway.clone();
    tasks.spawn(async move { own.rules.refresh_loop().await });
}
