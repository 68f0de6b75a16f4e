//! The listener of the web page for other machines: TLS with client certificates.

use std::fs;
use std::future::Future;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::{Request, Response};
use saegis_certificate::OperatorName;
use saegis_handshake::operator::{Operator, OperatorServer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::guard::Body;
use super::visitor::{RemoteOperator, Visitor};
use crate::admin::protocol::WebRole;
use crate::config::Remote;
use crate::listener::loopback_http::{self, ServerLimits};
use crate::listener::peer_limits::{HandshakeLimits, PeerLimits};

/// Maximum number of connections of operators.
const MAX_CONNECTIONS: usize = 64;
/// Limits on handshakes. Browsers open up to six connections at a time.
const HANDSHAKES: HandshakeLimits = HandshakeLimits { all: 32, active: 8, failures: 60 };
/// Timeout for a handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Minimum interval between two checks whether the files have changed, and between log lines about
/// refused handshakes.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
const LOG_INTERVAL: Duration = Duration::from_secs(1);
/// Delay after a failed accept.
const RETRY_DELAY: Duration = Duration::from_millis(20);

const LIMITS: ServerLimits = ServerLimits {
    connections: MAX_CONNECTIONS,
    header: Duration::from_secs(5),
    // The client certificate is verified again with each connection.
    connection: Duration::from_secs(600),
    active_until_sent: true,
};

/// Metadata of a file that changes with its content. `None` if there is no file.
type Stamp = Option<(i64, i64, u64, u64)>;

fn stamp(file: &Path) -> Stamp {
    let meta = fs::metadata(file).ok()?;
    Some((meta.ctime(), meta.ctime_nsec(), meta.ino(), meta.len()))
}

/// The certificates, which are read again when their files change.
struct Certificates {
    config: Remote,
    hosts: Arc<[String]>,
    state: Mutex<Loaded>,
    /// Time of the last log line about a refused handshake.
    logged: Mutex<Option<Instant>>,
}

struct Loaded {
    server: Arc<OperatorServer>,
    stamps: [Stamp; 3],
    checked: Instant,
}

impl Certificates {
    fn load(config: Remote) -> Result<Self, String> {
        let stamps = config.files().map(|file| stamp(file));
        let server = Arc::new(config.load()?);
        let state = Mutex::new(Loaded { server, stamps, checked: Instant::now() });
        let hosts = config.host_names.clone().into();
        Ok(Self { config, hosts, state, logged: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, Loaded> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the server of the current files, or of the last ones that could be used.
    async fn current(self: &Arc<Self>) -> Arc<OperatorServer> {
        {
            let mut state = self.state();
            if state.checked.elapsed() < CHECK_INTERVAL {
                return state.server.clone();
            }
            state.checked = Instant::now();
        }
        let own = self.clone();
        // It cannot panic. If it did, the last server would stay.
        let _ = tokio::task::spawn_blocking(move || own.reload_if_changed()).await;
        self.state().server.clone()
    }

    fn reload_if_changed(&self) {
        let stamps = self.config.files().map(|file| stamp(file));
        if self.state().stamps == stamps {
            return;
        }
        match self.config.load() {
            Ok(server) => {
                let mut state = self.state();
                (state.server, state.stamps) = (Arc::new(server), stamps);
                tracing::info!(
                    event = "admin.certificates-loaded",
                    "loaded the changed certificates of the web page for other machines"
                );
            }
            Err(why) => {
                self.state().stamps = stamps;
                tracing::warn!(
                    event = "admin.certificates-refused",
                    why,
                    "refused the changed certificates of the web page, the former ones stay: {why}"
                );
            }
        }
    }

    fn operator(&self, found: &Operator) -> Option<RemoteOperator> {
        let of =
            |names: &[OperatorName]| found.names.iter().find(|name| names.contains(*name)).cloned();
        // A certificate with names of both lists has the lesser role.
        let (name, role) = match of(&self.config.viewers) {
            Some(name) => (name, WebRole::View),
            None => (of(&self.config.operators)?, WebRole::Operate),
        };
        let (digest, hosts) = (found.digest, self.hosts.clone());
        Some(RemoteOperator { name: name.to_string(), role, digest, hosts })
    }

    fn log_refusal(&self, peer: SocketAddr, why: &str) {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.is_none_or(|at| at.elapsed() >= LOG_INTERVAL) {
            *logged = Some(Instant::now());
            tracing::warn!(
                event = "admin.handshake-refused",
                %peer,
                why,
                "refused a handshake of {peer} with the web page: {why}"
            );
        }
    }
}

/// The listener. It stops, with its connections, when this is dropped.
pub struct RemoteServer {
    /// Bound address.
    pub address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for RemoteServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl RemoteServer {
    /// Binds the address and serves requests, each with the operator.
    ///
    /// # Errors
    /// Fails if the address cannot be bound, or a file cannot be used.
    pub async fn listen<A, F>(config: &Remote, answer: A) -> Result<Self, String>
    where
        A: Fn(Visitor, Request<Incoming>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let own = config.clone();
        let loaded = tokio::task::spawn_blocking(move || Certificates::load(own)).await;
        let certificates = loaded.map_err(|e| e.to_string())??;
        let failed = |e| format!("cannot bind admin.web.remote.listen {}: {e}", config.listen);
        let candidates = config.listen.candidates().await.map_err(failed)?;
        let listener = TcpListener::bind(&*candidates).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let task = tokio::spawn(accept(listener, Arc::new(certificates), answer));
        Ok(Self { address, task })
    }
}

async fn accept<A, F>(listener: TcpListener, certificates: Arc<Certificates>, answer: A)
where
    A: Fn(Visitor, Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let (peers, mut connections) = (PeerLimits::new(HANDSHAKES), JoinSet::new());
    loop {
        let Ok((socket, peer)) = listener.accept().await else {
            tokio::time::sleep(RETRY_DELAY).await;
            continue;
        };
        while connections.try_join_next().is_some() {}
        let handshake = match peers.admit(peer.ip()) {
            Ok(handshake) => handshake,
            Err(limit) => {
                certificates.log_refusal(peer, limit.why());
                continue;
            }
        };
        let (certificates, permits) = (certificates.clone(), permits.clone());
        let answer = answer.clone();
        connections.spawn(async move {
            let opened = tokio::select! {
                () = handshake.displaced() => return,
                opened = tokio::time::timeout(HANDSHAKE_TIMEOUT, open(&certificates, socket)) => {
                    opened.unwrap_or_else(|_| Err("it took too long".into()))
                }
            };
            let (stream, operator) = match opened {
                Ok(opened) => opened,
                Err(why) => {
                    handshake.failed();
                    return certificates.log_refusal(peer, &why);
                }
            };
            drop(handshake);
            let Ok(_permit) = permits.try_acquire_owned() else {
                return certificates.log_refusal(peer, "operators have too many connections");
            };
            let visitor = Visitor::Remote(Arc::new(operator));
            let answer = move |request| answer(visitor.clone(), request);
            loopback_http::serve(stream, LIMITS, Arc::default(), answer).await;
        });
    }
}

async fn open(
    certificates: &Arc<Certificates>,
    socket: TcpStream,
) -> Result<(impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin, RemoteOperator), String> {
    let server = certificates.current().await;
    let (stream, found) = server.accept(socket).await.map_err(|e| e.to_string())?;
    let operator = certificates.operator(&found).ok_or("its certificate has no listed name")?;
    Ok((stream, operator))
}
